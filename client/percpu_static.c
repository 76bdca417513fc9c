/* SPDX-License-Identifier: MIT */
/*
 * Static per-CPU variables: KMM_DEFINE_PER_CPU.
 *
 * The linker lays the variables of a module (the program, a shared library) side by side in a
 * section of their own, with their initial values: the template. The module tells the library where
 * when it is loaded, by a constructor. The first use of one of its variables lays the copies, all
 * with the contents of the template, in per-CPU memory of the default session; from then on CPU 0's
 * copy of any of them is a constant away (delta), which the program adds by itself.
 *
 *     module     |....[ hits | stats | ... ]....|     start, end
 *                          \ delta
 *     chunk      |......[ hits | stats | ... ].......|......[ hits | stats | ... ].......|
 *
 * Where the session cannot be opened, or has no memory, the copies lie in memory of the process:
 * there is nobody to whom an increment could tell that it failed. They stay there.
 *
 * No lock is held over the opening of a session. Threads that meet here each make a region, and one
 * of them is taken.
 *
 * A variable of another module, declared here. Its address lies in that module's section, or, where
 * the linker of a program made a copy of it (a copy relocation), in the program's own data: then
 * the dynamic symbol says from where to where, and it becomes a module by itself. Both are looked
 * up at each use.
 *
 * The copies of a module that is unloaded are freed, those of a session that is closed go with it,
 * and a forked child has none of its parent's: the next use makes them anew.
 */
#include "client/percpu.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

struct kmm *kmm_kernel_session(void);

/* What the library keeps in a module's `reserved`. */
enum { MODULE_NEXT, MODULE_KNOWN };

static struct kmm_percpu_module_1 *modules; /* percpu_lock */
static bool ending;                         /* percpu_lock: the process is in exit() */

static struct kmm_percpu_module_1 *module_next(const struct kmm_percpu_module_1 *m)
{
	return (struct kmm_percpu_module_1 *)m->reserved[MODULE_NEXT];
}

static bool module_has(const struct kmm_percpu_module_1 *m, uintptr_t at)
{
	return at - m->start < m->end - m->start;
}

static uintptr_t module_ready(const struct kmm_percpu_module_1 *m)
{
	/* acquire: pairs with the release in module_set() */
	return __atomic_load_n(&m->ready, __ATOMIC_ACQUIRE);
}

/* base: CPU 0's copy of the whole; 0: none. percpu_lock is held. */
static void module_set(struct kmm_percpu_module_1 *m, uintptr_t base)
{
	if (base)
		m->delta = base - m->start;
	/* release: the copies and `delta` are there for who sees it */
	__atomic_store_n(&m->ready, base ? m->end - m->start : 0, __ATOMIC_RELEASE);
}

bool percpu_static_has(uintptr_t at)
{
	struct kmm_percpu_module_1 *m;

	pthread_mutex_lock(&percpu_lock);
	for (m = modules; m && !module_has(m, at); m = module_next(m))
		;
	pthread_mutex_unlock(&percpu_lock);
	return m != NULL;
}

static void modules_end(void)
{
	pthread_mutex_lock(&percpu_lock);
	ending = true;
	pthread_mutex_unlock(&percpu_lock);
}

/* percpu_lock is held. */
static void module_enlist(struct kmm_percpu_module_1 *m)
{
	if (m->reserved[MODULE_KNOWN])
		return;
	m->reserved[MODULE_KNOWN] = 1;
	m->reserved[MODULE_NEXT] = (uintptr_t)modules;
	modules = m;
}

void kmm_percpu_register_1(struct kmm_percpu_module_1 *m)
{
	static bool watched; /* percpu_lock */
	bool first;

	pthread_mutex_lock(&percpu_lock);
	first = !watched;
	watched = true;
	module_enlist(m);
	pthread_mutex_unlock(&percpu_lock);
	/* Runs before any module's destructor when the process ends, and not when one is unloaded.
	 * */
	if (first)
		atexit(modules_end);
}

/* While the process ends, other threads go on. */
void kmm_percpu_unregister_1(struct kmm_percpu_module_1 *m)
{
	struct kmm_percpu_module_1 *p, *before = NULL;
	uintptr_t base = 0;

	pthread_mutex_lock(&percpu_lock);
	for (p = modules; p && p != m; p = module_next(p))
		before = p;
	if (p && !ending) {
		if (before)
			before->reserved[MODULE_NEXT] = m->reserved[MODULE_NEXT];
		else
			modules = module_next(m);
		m->reserved[MODULE_KNOWN] = 0;
		if (module_ready(m))
			base = m->start + m->delta;
		module_set(m, 0);
	}
	pthread_mutex_unlock(&percpu_lock);
	if (base) {
		ERROR_TEXT_SCOPE;

		percpu_region_free(base);
	}
}

size_t percpu_largest_module(void)
{
	struct kmm_percpu_module_1 *m;
	size_t largest = 0;

	pthread_mutex_lock(&percpu_lock);
	for (m = modules; m; m = module_next(m))
		if (m->end - m->start > largest)
			largest = m->end - m->start;
	pthread_mutex_unlock(&percpu_lock);
	return largest;
}

void percpu_modules_check(void)
{
	struct kmm_percpu_module_1 *m;

	for (m = modules; m; m = module_next(m))
		if (module_ready(m) && !percpu_region_lives(m->start + m->delta))
			module_set(m, 0);
}

/* ---- copies ---- */

/* What the template is aligned to, as far as it matters. */
static size_t module_align(const struct kmm_percpu_module_1 *m)
{
	size_t align = m->start & -m->start;

	return align < KMM_PAGE_SIZE ? align : KMM_PAGE_SIZE;
}

static int module_region(const struct kmm_percpu_module_1 *m, uintptr_t *base)
{
	size_t size = m->end - m->start;
	struct kmm *k = kmm_kernel_session();
	unsigned int cpu;
	int r = -ENOENT;

	if (k)
		r = percpu_region_alloc(k, size, module_align(m), (const void *)m->start, base);
	if (r < 0)
		r = percpu_region_alloc(NULL, size, module_align(m), (const void *)m->start, base);
	if (r < 0)
		return r;
	for (cpu = 0; cpu < percpu_machine()->nr_cpus; cpu++)
		memcpy((void *)(*base + percpu_cpu(cpu)->offset), (const void *)m->start, size);
	return 0;
}

/* Copies for a module that has none; false: it is larger than a unit, or the process has no memory.
 * */
static bool module_set_up(struct kmm_percpu_module_1 *m)
{
	uintptr_t base;

	if (module_region(m, &base) < 0)
		return false;
	pthread_mutex_lock(&percpu_lock);
	if (!module_ready(m)) {
		module_set(m, base);
		base = 0;
	}
	pthread_mutex_unlock(&percpu_lock);
	if (base) /* another thread was faster */
		percpu_region_free(base);
	return true;
}

static struct kmm_percpu_module_1 *module_find(uintptr_t at)
{
	struct kmm_percpu_module_1 *m;

	pthread_mutex_lock(&percpu_lock);
	for (m = modules; m && !module_has(m, at); m = module_next(m))
		;
	pthread_mutex_unlock(&percpu_lock);
	return m;
}

/* A variable that the linker copied out of its module. */
static struct kmm_percpu_module_1 *module_of_symbol(uintptr_t at)
{
	struct kmm_percpu_module_1 *m, *there;
	const ElfW(Sym) *symbol = NULL;
	Dl_info info;

	if (!dladdr1((const void *)at, &info, (void **)&symbol, RTLD_DL_SYMENT) || !symbol ||
	    !info.dli_saddr || at - (uintptr_t)info.dli_saddr >= symbol->st_size)
		return NULL;
	m = calloc(1, sizeof(*m));
	if (!m)
		return NULL;
	m->start = (uintptr_t)info.dli_saddr;
	m->end = m->start + symbol->st_size;
	pthread_mutex_lock(&percpu_lock);
	for (there = modules; there && !module_has(there, at); there = module_next(there))
		;
	if (!there)
		module_enlist(m);
	pthread_mutex_unlock(&percpu_lock);
	if (there)
		free(m);
	return there ? there : m;
}

uintptr_t kmm_percpu_static_1(struct kmm_percpu_module_1 *here, const volatile void *template_)
{
	ERRNO_SCOPE;
	ERROR_TEXT_SCOPE;
	uintptr_t at = (uintptr_t)template_;
	struct kmm_percpu_module_1 *m = here;

	if (!module_has(m, at))
		m = module_find(at);
	else
		kmm_percpu_register_1(m); /* this may be before its constructors */
	if (!m)
		m = module_of_symbol(at);
	if (!m || (!module_ready(m) && !module_set_up(m)))
		return at | KMM_PERCPU_1; /* whose use ends the program */
	return at + m->delta;
}
