/* SPDX-License-Identifier: MIT */
/*
 * The kernel's names for per-CPU variables: a part of <kmm/kernel.h>, which includes it. What they are
 * and how they work is said in <kmm/percpu.h>.
 *
 * `static DEFINE_PER_CPU(int, hits);` defines a variable that every CPU has a copy of; pointers from
 * alloc_percpu are not to be used but with the macros here. The forms without preemption's protection
 * (__this_cpu_, raw_cpu_) are the others by another name: there is nothing to be saved.
 */
#ifndef KMM_KERNEL_PERCPU_H
#define KMM_KERNEL_PERCPU_H

#ifndef KMM_KERNEL_H
#error "include <kmm/kernel.h>"
#endif

/* A mark for checkers. */
#ifndef __percpu
#define __percpu
#endif

#define DEFINE_PER_CPU(type, name) KMM_DEFINE_PER_CPU(type, name)
#define DEFINE_PER_CPU_ALIGNED(type, name) KMM_DEFINE_PER_CPU_ALIGNED(type, name)
#define DECLARE_PER_CPU(type, name) KMM_DECLARE_PER_CPU(type, name)

static inline KMM_ANY __alloc_percpu(size_t size, size_t align)
{
	struct kmm *k = kmm_kernel_session();

	return KMM_ANY_OF((void *)(k ? kmm_alloc_percpu(k, size, align) : NULL));
}

#define alloc_percpu(type)                                                                         \
	((__typeof__(type) *)__alloc_percpu(sizeof(type), __alignof__(type)))

static inline void free_percpu(const void *p)
{
	kmm_refused(kmm_free_percpu((struct kmm_percpu *)(uintptr_t)p));
}

#define per_cpu(var, cpu) kmm_per_cpu(var, cpu)
#define per_cpu_ptr(ptr, cpu) kmm_per_cpu_at(ptr, cpu)
#define this_cpu_ptr(ptr) kmm_this_cpu_ptr(ptr)
#define this_cpu_read(pcp) kmm_this_cpu_read(pcp)
#define this_cpu_write(pcp, value) kmm_this_cpu_write(pcp, value)
#define this_cpu_add(pcp, n) kmm_this_cpu_add(pcp, n)
#define this_cpu_sub(pcp, n) kmm_this_cpu_sub(pcp, n)
#define this_cpu_inc(pcp) kmm_this_cpu_inc(pcp)
#define this_cpu_dec(pcp) kmm_this_cpu_dec(pcp)
#define this_cpu_and(pcp, n) kmm_this_cpu_and(pcp, n)
#define this_cpu_or(pcp, n) kmm_this_cpu_or(pcp, n)
#define this_cpu_xchg(pcp, value) kmm_this_cpu_xchg(pcp, value)
#define this_cpu_cmpxchg(pcp, expected, value) kmm_this_cpu_cmpxchg(pcp, expected, value)
#define this_cpu_add_return(pcp, n) kmm_this_cpu_add_return(pcp, n)
#define this_cpu_sub_return(pcp, n) kmm_this_cpu_sub_return(pcp, n)
#define this_cpu_inc_return(pcp) kmm_this_cpu_inc_return(pcp)
#define this_cpu_dec_return(pcp) kmm_this_cpu_dec_return(pcp)

#define __this_cpu_read(pcp) this_cpu_read(pcp)
#define __this_cpu_write(pcp, value) this_cpu_write(pcp, value)
#define __this_cpu_add(pcp, n) this_cpu_add(pcp, n)
#define __this_cpu_sub(pcp, n) this_cpu_sub(pcp, n)
#define __this_cpu_inc(pcp) this_cpu_inc(pcp)
#define __this_cpu_dec(pcp) this_cpu_dec(pcp)
#define raw_cpu_ptr(ptr) this_cpu_ptr(ptr)
#define raw_cpu_read(pcp) this_cpu_read(pcp)
#define raw_cpu_write(pcp, value) this_cpu_write(pcp, value)
#define raw_cpu_add(pcp, n) this_cpu_add(pcp, n)
#define raw_cpu_inc(pcp) this_cpu_inc(pcp)

/* This CPU's copy, and nobody else changes it until it is put. */
#define get_cpu_var(var) kmm_get_cpu_var(var)
#define put_cpu_var(var) kmm_put_cpu_var(var)
#define get_cpu_ptr(ptr) kmm_get_cpu_ptr(ptr)
#define put_cpu_ptr(ptr) kmm_put_cpu_ptr(ptr)

/* Of CPUs that are online nothing is known: they are all that there can be. */
#define for_each_possible_cpu(cpu) kmm_for_each_possible_cpu(cpu)
#define for_each_online_cpu(cpu) kmm_for_each_possible_cpu(cpu)
#define nr_cpu_ids kmm_nr_cpus()

static inline unsigned int num_possible_cpus(void)
{
	return kmm_nr_cpus();
}

static inline int get_cpu(void)
{
	return (int)kmm_get_cpu();
}

static inline void put_cpu(void)
{
	kmm_refused(kmm_put_cpu());
}

static inline int smp_processor_id(void)
{
	return (int)kmm_cpu_id();
}

#endif
