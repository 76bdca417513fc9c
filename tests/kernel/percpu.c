/* SPDX-License-Identifier: MIT */
/*
 * Per-CPU variables: counters that every CPU has for itself, and the sum over all of them.
 */
#include "tests/kernel/kernel_test.h"

/* ---- the code ---- */

/* How often each CPU switched from one task to another. */
static DEFINE_PER_CPU(unsigned long, ctx_switches);

struct net_stats {
	unsigned long packets, bytes;
	int last_error;
};

static DEFINE_PER_CPU(struct net_stats, net_stats) = { 0, 0, -1 };

static void switch_context(void)
{
	this_cpu_inc(ctx_switches);
}

static unsigned long nr_context_switches(void)
{
	unsigned long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu(ctx_switches, cpu);
	return sum;
}

/* Several fields that belong together: nobody else is to come between. */
static void packet_received(unsigned long bytes)
{
	struct net_stats *n = &get_cpu_var(net_stats);

	n->packets++;
	n->bytes += bytes;
	put_cpu_var(net_stats);
}

/* Of a device, so as many as there are. */
struct device {
	unsigned long *irqs; /* per CPU */
};

/* The other names of the operations. */
static int other_names(int __percpu *p)
{
	int sum = 0, cpu;

	raw_cpu_add(*p, 5);
	raw_cpu_inc(*p);
	__this_cpu_sub(*p, 2);
	__this_cpu_dec(*p);
	for_each_online_cpu(cpu)
		sum += *per_cpu_ptr(p, cpu);
	/* the first adds to what this CPU has, whichever it is; the second undoes it */
	get_cpu();
	cpu = this_cpu_add_return(*p, 7) - this_cpu_sub_return(*p, 7);
	cpu += this_cpu_inc_return(*p) - this_cpu_dec_return(*p);
	put_cpu();
	return nr_cpu_ids == num_possible_cpus() && cpu == 7 + 1 ? sum : -1;
}

static int device_open(struct device *d)
{
	d->irqs = alloc_percpu(unsigned long);
	return d->irqs ? 0 : -ENOMEM;
}

static void device_irq(struct device *d)
{
	this_cpu_add(*d->irqs, 1);
}

static unsigned long device_irqs(struct device *d)
{
	unsigned long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += *per_cpu_ptr(d->irqs, cpu);
	return sum;
}

static void device_close(struct device *d)
{
	free_percpu(d->irqs);
}

/* ---- the tests ---- */

#define THREADS 4
#define TIMES 20000

struct work {
	pthread_t thread;
	struct device *d;
};

static void *work_run(void *arg)
{
	struct work *w = (struct work *)arg;
	int i;

	for (i = 0; i < TIMES; i++) {
		switch_context();
		packet_received(100);
		device_irq(w->d);
	}
	return NULL;
}

START_TEST(counters_over_all_cpus)
{
	struct net_stats sum = { 0, 0, 0 };
	struct work w[THREADS];
	struct device d;
	int i, cpu;

	ck_assert_int_eq(device_open(&d), 0);
	ck_assert_uint_eq(device_irqs(&d), 0);
	for (i = 0; i < THREADS; i++) {
		w[i].d = &d;
		ck_assert_int_eq(pthread_create(&w[i].thread, NULL, work_run, &w[i]), 0);
	}
	for (i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(w[i].thread, NULL), 0);
	/* each increment counts, on whatever CPU */
	ck_assert_uint_eq(nr_context_switches(), THREADS * TIMES);
	ck_assert_uint_eq(device_irqs(&d), THREADS * TIMES);
	for_each_possible_cpu(cpu) {
		sum.packets += per_cpu(net_stats, cpu).packets;
		sum.bytes += per_cpu(net_stats, cpu).bytes;
		ck_assert_int_eq(per_cpu(net_stats, cpu).last_error, -1);
	}
	ck_assert_uint_eq(sum.packets, THREADS * TIMES);
	ck_assert_uint_eq(sum.bytes, THREADS * TIMES * 100);
	device_close(&d);
}
END_TEST

/* What is taken is this CPU's, until it is put. */
START_TEST(a_cpu_of_ones_own)
{
	unsigned long *p = alloc_percpu(unsigned long);
	int cpu = get_cpu(), i;

	ck_assert_int_eq(smp_processor_id(), cpu);
	*this_cpu_ptr(p) = 5;
	ck_assert_uint_eq(this_cpu_read(*p), 5);
	this_cpu_write(*p, 7);
	ck_assert_uint_eq(*per_cpu_ptr(p, cpu), 7);
	ck_assert_uint_eq(this_cpu_add_return(*p, 3), 10);
	ck_assert_uint_eq(this_cpu_xchg(*p, 20), 10);
	ck_assert_uint_eq(this_cpu_cmpxchg(*p, 20, 30), 20);
	this_cpu_dec(*p);
	put_cpu();
	ck_assert_uint_eq(*per_cpu_ptr(p, cpu), 29);
	for_each_possible_cpu(i)
		ck_assert(i == cpu || *per_cpu_ptr(p, i) == 0);
	ck_assert_uint_gt(num_possible_cpus(), 0);
	free_percpu(p);
	free_percpu(NULL);
}
END_TEST

START_TEST(areas_of_any_size)
{
	static const size_t size[] = { 1, 8, 100, 4096, 16384 };
	size_t i;
	int cpu;

	for (i = 0; i < ARRAY_SIZE(size); i++) {
		char *p = __alloc_percpu(size[i], 8);

		ck_assert_msg(p != NULL, "%zu: %s", size[i], kmm_error_text());
		for_each_possible_cpu(cpu) {
			ck_assert_int_eq(per_cpu_ptr(p, cpu)[size[i] - 1], 0);
			memset(per_cpu_ptr(p, cpu), cpu + 1, size[i]);
		}
		for_each_possible_cpu(cpu)
			ck_assert_int_eq(per_cpu_ptr(p, cpu)[0], (char)(cpu + 1));
		free_percpu(p);
	}
	errno = 0;
	ck_assert(!__alloc_percpu(1 << 20, 8));
	ck_assert_int_eq(errno, EINVAL);
}
END_TEST

START_TEST(operations_by_other_names)
{
	int *p = alloc_percpu(int);

	ck_assert_ptr_nonnull(p);
	ck_assert_int_eq(other_names(p), 3);
	free_percpu(p);
}
END_TEST

KERNEL_CASES(percpu)
{
	TCase *t = kernel_case(s, "percpu");

	tcase_add_test(t, counters_over_all_cpus);
	tcase_add_test(t, a_cpu_of_ones_own);
	tcase_add_test(t, areas_of_any_size);
	tcase_add_test(t, operations_by_other_names);
}
