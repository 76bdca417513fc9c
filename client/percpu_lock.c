/* SPDX-License-Identifier: MIT */
/*
 * kmm_get_cpu and kmm_put_cpu: a CPU for a thread alone.
 *
 * What excludes is the CPU's `hold` (percpu_rseq.c), a word of this process: only this process has
 * these copies, so nobody else's word could help, or should be able to hinder. The first get of a
 * thread takes the CPU and brings the thread's further operations to the library, which does them
 * on that CPU's copies wherever the thread runs; the last put undoes both. Between, gets count.
 *
 * For who looks at the process from outside, the thread leaves its name meanwhile: session, thread
 * and depth, in the word of the area (the chunk of the variable that it was got for) and the CPU
 * (shm/area_lock.h). The daemon clears what the dead left, before another session may have the
 * area.
 *
 * A thread that ends gives what it had.
 */
#include "client/percpu.h"

#include "shm/area_lock.h"

/* Apart, because it is dear to keep the text. */
static __attribute__((noinline)) bool find_slow(struct percpu_thread *t, uintptr_t base)
{
	ERROR_TEXT_SCOPE;

	return percpu_find(t, base) == 0;
}

/* The word for the chunk that the address lies in; NULL: none. */
static void record_find(struct percpu_thread *t, uintptr_t base)
{
	bool found = percpu_met(t, base) || find_slow(t, base);

	t->record = found && t->records ? &t->records[t->cpu] : NULL;
	t->record_chunk = t->chunk;
	t->record_generation = t->generation;
}

static void record_write(struct percpu_thread *t)
{
	if (!t->record)
		return;
	if (unlikely(t->record_generation != percpu_generation()))
		record_find(t, t->record_chunk); /* a chunk has gone: this one? */
	/* relaxed: for reports */
	if (t->record)
		atomic_store_explicit(t->record,
		                      t->depth ? area_lock_make(t->session, t->tid, t->depth) : 0,
		                      memory_order_relaxed);
}

static void take_for(struct percpu_thread *t, uintptr_t base)
{
	if (t->depth == 0) {
		t->cpu = percpu_take(t);
		percpu_sequences_off(t);
		if (base)
			record_find(t, base);
	}
	t->depth++;
	record_write(t);
}

static void give_all(struct percpu_thread *t)
{
	t->depth = 0;
	record_write(t);
	t->record = NULL;
	percpu_sequences_on(t);
	percpu_give(t->cpu);
}

/* ---- a thread's end ---- */

static pthread_key_t end_key;
static bool end_key_made;

static void end_notice(void *arg)
{
	struct percpu_thread *t = arg;

	t->noticed = false; /* other destructors may take one yet */
	if (t->depth)
		give_all(t);
}

static void end_key_make(void)
{
	end_key_made = pthread_key_create(&end_key, end_notice) == 0;
}

static struct percpu_thread *self_for_get(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct percpu_thread *t = percpu_self();

	if (unlikely(!t->noticed)) {
		pthread_once(&once, end_key_make);
		t->noticed = end_key_made && pthread_setspecific(end_key, t) == 0;
	}
	return t;
}

/* ---- the functions ---- */

void *kmm_percpu_get_1(uintptr_t base)
{
	ERRNO_SCOPE;
	struct percpu_thread *t = self_for_get();

	take_for(t, base);
	return (void *)(base + percpu_cpu(t->cpu)->offset);
}

unsigned int kmm_get_cpu(void)
{
	ERRNO_SCOPE;
	struct percpu_thread *t = self_for_get();

	take_for(t, 0);
	return t->cpu;
}

int kmm_put_cpu(void)
{
	ERRNO_SCOPE;
	struct percpu_thread *t = percpu_self();

	if (t->depth == 0)
		return error_set(EPERM, "the thread has no CPU to put");
	if (t->depth == 1) {
		give_all(t);
	} else {
		t->depth--;
		record_write(t);
	}
	return 0;
}
