// SPDX-License-Identifier: MIT
// Static per-CPU variables in C++, and the operations in inline functions and templates, which the
// linker takes from one of several object files.
#include <cstdint>

#include "tests/integration/percpu_static.h"

extern "C" {
KMM_DEFINE_PER_CPU(struct percpu_both, percpu_of_cxx) = { 100, 200 };
}

namespace
{
KMM_DEFINE_PER_CPU(unsigned short, small) = 7;
}

namespace counting
{
KMM_DEFINE_PER_CPU(std::int64_t[4], row);

template<int I> struct counter {
	static void add(std::int64_t n)
	{
		kmm_this_cpu_add(row[I], n);
	}

	static std::int64_t sum()
	{
		std::int64_t s = 0;
		unsigned int cpu;

		kmm_for_each_possible_cpu(cpu)
			s += kmm_per_cpu(row, cpu)[I];
		return s;
	}
};
}

inline void both_add(long n)
{
	kmm_this_cpu_add(percpu_of_cxx.in, n);
	kmm_this_cpu_sub(percpu_of_cxx.out, n);
}

void percpu_cxx_count(long n)
{
	both_add(n);
	counting::counter<1>::add(n);
	counting::counter<3>::add(2 * n);
	kmm_get_cpu_var(counting::row)[0] += n;
	kmm_put_cpu_var(counting::row);
	kmm_this_cpu_inc(small);
}

long percpu_cxx_sum(void)
{
	long s = 0;
	int cpu;

	kmm_for_each_possible_cpu(cpu)
		s += kmm_per_cpu(small, cpu);
	return s + counting::counter<0>::sum() + counting::counter<1>::sum() +
	       counting::counter<3>::sum();
}

#define CHECK(condition)                                                                           \
	if (!(condition))                                                                          \
	return __LINE__

int percpu_cxx_operations(struct percpu_both *p)
{
	struct percpu_both *c;
	unsigned int cpu = kmm_get_cpu();

	c = kmm_per_cpu_at(p, cpu);
	CHECK(kmm_get_cpu_ptr(p) == c);
	kmm_put_cpu_ptr(p);
	kmm_this_cpu_write(p->in, 5);
	kmm_this_cpu_inc(p->in);
	CHECK(kmm_this_cpu_read(p->in) == 6 && c->in == 6);
	CHECK(kmm_this_cpu_xchg(p->in, -1) == 6 && kmm_this_cpu_cmpxchg(p->in, -1, 9) == -1);
	CHECK(kmm_this_cpu_add_return(p->in, 2) == 11 && kmm_this_cpu_dec_return(p->in) == 10);
	kmm_this_cpu_and(p->in, 8);
	kmm_this_cpu_or(p->in, 1);
	CHECK(kmm_per_cpu(p->in, cpu) == 9 && kmm_this_cpu_ptr(&p->in) == &c->in);
	CHECK(kmm_cpu_id() == cpu && kmm_put_cpu() == 0);
	return 0;
}
