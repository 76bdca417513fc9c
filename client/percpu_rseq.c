/* SPDX-License-Identifier: MIT */
/*
 * CPUs: how many there are, who has taken them, and the operations on their copies that a program's
 * own sequences leave to the library.
 *
 * An operation on this CPU's copy (<kmm/percpu.h>) is a restartable sequence, assembled into the
 * program: between reading the number of the CPU and the store to its copy the kernel lets no other
 * thread of the process run there without making this one begin again. So plain instructions do.
 *
 *     thread -> rseq   its struct rseq, where the kernel keeps the CPU's number
 *            -> cpu    a line a CPU:  hold     the thread that has taken the CPU, 0: none
 *                                     waiters
 *                                     offset   of its copies from CPU 0's
 *
 * Taking a CPU. A thread that wants a CPU's copies for longer than a store (kmm_get_cpu) writes its
 * number to `hold`, in a sequence on that CPU: whoever was in the middle of another one there
 * begins again, and finds the CPU taken. `hold` is looked at inside each sequence, so all
 * operations on that CPU wait until it is 0 again, wherever its holder runs meanwhile. That is what
 * switching off preemption does in the kernel. It is one lock a CPU for all per-CPU variables of
 * the process, because kernel code nests get_cpu_var of several variables in any order.
 *
 * What comes here: a CPU that is taken; a thread that has one taken, whose operations are to go to
 * that CPU's copies, wherever it runs; a thread's first operation; and all operations where there
 * are no sequences, or where the program was not optimized. Each is done with the CPU taken. To
 * bring a thread's operations here its `rseq` points to a structure of the library, whose CPU
 * number is that of a line that is always taken.
 *
 * The choice. Sequences need the kernel's and glibc's support (a tunable switches glibc's off), a
 * line for every CPU that there can be, and membarrier for the odd thread that the kernel does not
 * know about, of all of which none changes while the process lives. It is made once: with them, or
 * every operation takes the CPU by an atomic exchange. The two exclude each other by `hold`, so
 * they may meet: a thread without sequences in a process with them takes a CPU from outside, and
 * has the kernel interrupt whatever sequence runs there (membarrier) before it goes on.
 *
 * Why not an atomic addition where there are no sequences: it would slip in between the load and
 * the store of a thread that has taken the CPU.
 *
 * A signal handler that interrupts an operation here finds the CPU taken by its own thread, and
 * goes on: what is done with the CPU taken are atomic instructions for that reason.
 */
#include "client/percpu.h"

#include <fcntl.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MEMBARRIER_CMD_FLAG_CPU /* Linux 5.10 */
#define MEMBARRIER_CMD_FLAG_CPU 1
#define MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ (1 << 7)
#define MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ (1 << 8)
#endif

#define UNIT_MIN (16u << 10)
#define UNIT_USUAL (32u << 10) /* PCPU_MIN_UNIT_SIZE in Linux */
#define CHUNK_MAX (KMM_PAGE_SIZE << KMM_MAX_ORDER)
#define SPINS 64

_Static_assert(sizeof(struct kmm_cpu_1) == 64 && offsetof(struct kmm_cpu_1, offset) == 8 &&
                       offsetof(struct kmm_rseq_1, cpu_id) == 4 &&
                       offsetof(struct kmm_rseq_1, rseq_cs) == 8,
               "assembly knows these");
_Static_assert(KMM_CPUS_1 == CONTROL_AREA_CPUS, "records");

/* glibc 2.35 and newer. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

static struct percpu_machine machine;
static _Alignas(64) struct kmm_cpu_1 cpus[KMM_CPUS_1 + 1] = { [KMM_CPUS_1] = { .hold = 1 } };

/* Of threads that were never here. */
static _Alignas(32) struct kmm_rseq_1 nobody = { .cpu_id = KMM_CPUS_1 };
__thread struct kmm_percpu_thread_1 kmm_percpu_thread_1 = { &nobody, cpus };

/* As near as the program's. */
#define NEAR __attribute__((tls_model("initial-exec")))
static __thread struct kmm_rseq_1 without NEAR __attribute__((aligned(32))) = {
	.cpu_id = KMM_CPUS_1
};
static __thread struct percpu_thread self NEAR;

#ifdef __SANITIZE_THREAD__
void __tsan_acquire(void *p);
#define SEEN_BY_SANITIZER(p) __tsan_acquire(p) /* what assembly read */
#else
#define SEEN_BY_SANITIZER(p) ((void)0)
#endif

/* ---- the machine ---- */

/* The highest CPU number that there can be, plus one; 0: it cannot be told. */
static unsigned int cpus_possible(void)
{
	char text[4096], *last;
	int fd = open("/sys/devices/system/cpu/possible", O_RDONLY | O_CLOEXEC);
	ssize_t n = -1;

	if (fd >= 0) {
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	if (n <= 0)
		return 0;
	text[n] = '\0';
	/* a list such as 0-3,8-11: the last number is the highest */
	for (last = text + n; last > text && (last[-1] < '0' || last[-1] > '9'); last--)
		;
	for (; last > text && last[-1] >= '0' && last[-1] <= '9'; last--)
		;
	return (unsigned int)strtoul(last, NULL, 10) + 1;
}

static unsigned int cpus_count(void)
{
	unsigned long mask[1024 / sizeof(long)];
	unsigned int n = cpus_possible();
	long size;

	if (n == 0) {
		/* the size of the kernel's own mask, rounded up */
		size = syscall(SYS_sched_getaffinity, 0, sizeof(mask), mask);
		n = size > 0 ? (unsigned int)size * 8 : KMM_CPUS_1;
	}
	return n;
}

static bool sequences_supported(unsigned int possible)
{
#ifdef KMM_RSEQ_1
	return possible <= KMM_CPUS_1 && &__rseq_offset && &__rseq_size && __rseq_size > 0 &&
	       syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ, 0, 0) == 0;
#else
	(void)possible;
	return false;
#endif
}

/* A power of two, so that chunks hold what is aligned: as large as usual, or as the largest module
 * needs, as far as a page block of the highest order reaches. */
static uint32_t unit_choose(unsigned int nr_cpus)
{
	uint32_t unit = UNIT_USUAL;

	while (unit < percpu_largest_module() && (size_t)unit * 2 * nr_cpus <= CHUNK_MAX)
		unit *= 2;
	while (unit > UNIT_MIN && (size_t)unit * nr_cpus > CHUNK_MAX)
		unit /= 2;
	return unit;
}

static void machine_look(void)
{
	unsigned int possible = cpus_count(), i;

	percpu_fork_watch();
	machine.nr_cpus = possible < KMM_CPUS_1 ? possible : KMM_CPUS_1;
	machine.unit = unit_choose(machine.nr_cpus);
	while ((KMM_PAGE_SIZE << machine.order) < (size_t)machine.unit * machine.nr_cpus)
		machine.order++;
	for (i = 0; i < machine.nr_cpus; i++)
		cpus[i].offset = (uint64_t)i * machine.unit;
	machine.sequences = sequences_supported(possible);
}

const struct percpu_machine *percpu_machine(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, machine_look);
	return &machine;
}

struct kmm_cpu_1 *percpu_cpu(unsigned int cpu)
{
	return &cpus[cpu];
}

unsigned int kmm_nr_cpus(void)
{
	return percpu_machine()->nr_cpus;
}

/* ---- threads ---- */

#ifdef KMM_RSEQ_1
static struct kmm_rseq_1 *thread_rseq(void)
{
	return (struct kmm_rseq_1 *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

/* The kernel knows of the thread: it has a CPU. */
static bool thread_registered(void)
{
	/* relaxed: of this thread */
	return (int32_t)__atomic_load_n(&thread_rseq()->cpu_id, __ATOMIC_RELAXED) >= 0;
}
#endif

struct percpu_thread *percpu_self(void)
{
	struct percpu_thread *t = &self;

	if (likely(t->tid))
		return t;
#ifdef KMM_RSEQ_1
	t->sequences = percpu_machine()->sequences && thread_registered();
#endif
	percpu_machine();
	t->tid = (uint32_t)syscall(SYS_gettid);
	percpu_sequences_on(t);
	return t;
}

void percpu_sequences_off(struct percpu_thread *t)
{
	(void)t;
	kmm_percpu_thread_1.rseq = &without;
}

void percpu_sequences_on(struct percpu_thread *t)
{
#ifdef KMM_RSEQ_1
	kmm_percpu_thread_1.rseq = t->sequences ? thread_rseq() : &without;
#else
	percpu_sequences_off(t);
#endif
}

static unsigned int cpu_now(void)
{
	int cpu = sched_getcpu();

	return cpu < 0 ? 0 : (unsigned int)cpu % machine.nr_cpus;
}

unsigned int kmm_cpu_id(void)
{
	struct percpu_thread *t = percpu_self();

	return t->depth ? t->cpu : cpu_now();
}

/* ---- taking a CPU ---- */

#ifdef KMM_RSEQ_1
#ifdef __x86_64__
#define TAKE_CPU                                                                                   \
	"movl 4(%[rseq]), %k[t]\n\t"                                                               \
	"shlq $6, %[t]\n\t"                                                                        \
	"addq %[cpus], %[t]\n\t"                                                                   \
	"movl (%[t]), %[held]\n\t"                                                                 \
	"testl %[held], %[held]\n\t"                                                               \
	"jne 772f\n\t"                                                                             \
	"movl %[tid], (%[t])"
#else
#define TAKE_CPU                                                                                   \
	"ldr %w[t], [%[rseq], #4]\n\t"                                                             \
	"add %[t], %[cpus], %[t], lsl #6\n\t"                                                      \
	"ldar %w[held], [%[t]]\n\t"                                                                \
	"cbnz %w[held], 772f\n\t"                                                                  \
	"str %w[tid], [%[t]]"
#endif

/* The CPU that the thread runs on becomes its own; *who has it else. */
static unsigned int take_by_sequence(uint32_t tid, uint32_t *who)
{
	struct kmm_cpu_1 *line;
	uint32_t held;

	__asm__ volatile(KMM_RSEQ_BEGIN_1("%[t]") TAKE_CPU KMM_RSEQ_END_1
	                 : [t] "=&r"(line), [held] "=&r"(held)
	                 : [rseq] "r"(thread_rseq()), [cpus] "r"(cpus), [tid] "r"(tid)
	                 : "memory", "cc");
	*who = held;
	if (!held)
		SEEN_BY_SANITIZER(&line->hold);
	return (unsigned int)(line - cpus);
}
#endif

/* Any CPU, from anywhere. */
static bool take_by_exchange(unsigned int cpu, uint32_t tid, uint32_t *who)
{
	*who = 0;
	/* acquire: pairs with the release in percpu_give() */
	if (!__atomic_compare_exchange_n(&cpus[cpu].hold, who, tid, false, __ATOMIC_ACQUIRE,
	                                 __ATOMIC_RELAXED))
		return false;
	if (!machine.sequences)
		return true;
	/* A sequence that took it at the same moment may still write over what we wrote; behind
	 * this there is none that has not seen it. */
	syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, MEMBARRIER_CMD_FLAG_CPU,
	        cpu);
	*who = __atomic_load_n(&cpus[cpu].hold, __ATOMIC_ACQUIRE);
	if (*who != tid)
		return false;
	*who = 0;
	return true;
}

/* Until the CPU is somebody else's, or nobody's. */
static void take_wait(unsigned int cpu, uint32_t who)
{
	struct kmm_cpu_1 *c = &cpus[cpu];
	unsigned int i;

	/* relaxed: who tries again looks properly. It may run on another CPU and be done soon. */
	for (i = 0; i < SPINS; i++)
		if (__atomic_load_n(&c->hold, __ATOMIC_RELAXED) != who)
			return;
	/* seq_cst: counted in before the kernel compares; pairs with percpu_give() */
	__atomic_fetch_add(&c->waiters, 1, __ATOMIC_SEQ_CST);
	futex_wait((_Atomic uint32_t *)&c->hold, who, DEADLINE_NONE);
	__atomic_fetch_sub(&c->waiters, 1, __ATOMIC_RELAXED);
}

/* The CPU; *mine: the thread had it already, and a signal handler asks. */
static unsigned int take(struct percpu_thread *t, bool *mine)
{
	unsigned int cpu;
	uint32_t who;

	for (;;) {
#ifdef KMM_RSEQ_1
		if (t->sequences) {
			cpu = take_by_sequence(t->tid, &who);
		} else
#endif
		{
			cpu = cpu_now();
			take_by_exchange(cpu, t->tid, &who);
		}
		*mine = who == t->tid;
		if (!who || *mine)
			return cpu;
		take_wait(cpu, who);
	}
}

unsigned int percpu_take(struct percpu_thread *t)
{
	bool mine;

	return take(t, &mine);
}

void percpu_give(unsigned int cpu)
{
	struct kmm_cpu_1 *c = &cpus[cpu];

	/* seq_cst: release for the next who takes it, and before the look at who waits */
	__atomic_exchange_n(&c->hold, 0, __ATOMIC_SEQ_CST);
	/* All: who wakes may run on another CPU by now, and want that one. */
	if (unlikely(__atomic_load_n(&c->waiters, __ATOMIC_SEQ_CST)))
		futex_wake_all((_Atomic uint32_t *)&c->hold);
}

void percpu_cpus_in_child(void)
{
	struct percpu_thread *t = &self;
	unsigned int i;

	for (i = 0; i < KMM_CPUS_1; i++) {
		cpus[i].hold = 0;
		cpus[i].waiters = 0;
	}
	if (t->tid) {
		t->tid = (uint32_t)syscall(SYS_gettid);
		if (t->depth)
			cpus[t->cpu].hold = t->tid;
	}
}

/* ---- operations ---- */

/* relaxed, all: the CPU is taken; atomic for signal handlers and for who looks on */
#define APPLY(type)                                                                               \
	static uint64_t apply_##type(type *p, enum kmm_percpu_op_1 op, type a, type b)            \
	{                                                                                         \
		switch (op) {                                                                     \
		case KMM_PERCPU_READ_1:                                                           \
			return __atomic_load_n(p, __ATOMIC_RELAXED);                              \
		case KMM_PERCPU_WRITE_1:                                                          \
			__atomic_store_n(p, a, __ATOMIC_RELAXED);                                 \
			return 0;                                                                 \
		case KMM_PERCPU_AND_1:                                                            \
			return __atomic_fetch_and(p, a, __ATOMIC_RELAXED);                        \
		case KMM_PERCPU_OR_1:                                                             \
			return __atomic_fetch_or(p, a, __ATOMIC_RELAXED);                         \
		case KMM_PERCPU_XCHG_1:                                                           \
			return __atomic_exchange_n(p, a, __ATOMIC_RELAXED);                       \
		case KMM_PERCPU_CMPXCHG_1:                                                        \
			__atomic_compare_exchange_n(p, &a, b, false, __ATOMIC_RELAXED,            \
			                            __ATOMIC_RELAXED);                            \
			return a;                                                                 \
		default:                                                                          \
			return __atomic_fetch_add(p, a, __ATOMIC_RELAXED);                        \
		}                                                                                 \
	}
APPLY(uint8_t)
APPLY(uint16_t)
APPLY(uint32_t)
APPLY(uint64_t)

static uint64_t apply(uintptr_t at, enum kmm_percpu_op_1 op, unsigned int size, uint64_t a,
                      uint64_t b)
{
	switch (size) {
	case 1:
		return apply_uint8_t((uint8_t *)at, op, (uint8_t)a, (uint8_t)b);
	case 2:
		return apply_uint16_t((uint16_t *)at, op, (uint16_t)a, (uint16_t)b);
	case 4:
		return apply_uint32_t((uint32_t *)at, op, (uint32_t)a, (uint32_t)b);
	default:
		return apply_uint64_t((uint64_t *)at, op, a, b);
	}
}

uint64_t kmm_percpu_op_1(uintptr_t base, enum kmm_percpu_op_1 op, unsigned int size, uint64_t a,
                         uint64_t b)
{
	ERRNO_SCOPE;
	struct percpu_thread *t = percpu_self();
	unsigned int cpu;
	uint64_t was;
	bool mine;

	if (t->depth)
		return apply(base + cpus[t->cpu].offset, op, size, a, b);
	cpu = take(t, &mine);
	was = apply(base + cpus[cpu].offset, op, size, a, b);
	if (!mine)
		percpu_give(cpu);
	return was;
}
