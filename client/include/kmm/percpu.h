/* SPDX-License-Identifier: MIT */
/*
 * Per-CPU variables: a copy for each CPU, which threads change without a lock and without an atomic
 * instruction, as in the kernel's <linux/percpu-defs.h>. C and C++, GNU dialect, ELF.
 *
 *	KMM_DEFINE_PER_CPU(int, hits);			(one a process)
 *	struct stats { long in, out; } *s =		(as many as there are)
 *		(struct stats *)kmm_alloc_percpu(k, sizeof(*s), __alignof__(*s));
 *
 *	kmm_this_cpu_inc(hits);				a few instructions each, exact whatever
 *	kmm_this_cpu_add(s->in, bytes);			the other threads do
 *	kmm_for_each_possible_cpu(cpu)
 *		total += kmm_per_cpu(hits, cpu);
 *	kmm_get_cpu_ptr(s)->out = 0;			nobody else changes this CPU's copies
 *	kmm_put_cpu_ptr(s);				until here
 *
 * What a per-CPU pointer is. Not the address of anything: a place in the middle of nowhere, from
 * which the address of each CPU's copy follows by addition. Dereferencing it ends the program.
 * Expressions with it (s + 1, &s->out) are per-CPU pointers, too; the macros that take a variable
 * take *s and s->out as well as the name of a static one. Of a static variable the name stands for
 * the copies' template, its initial value: reading or writing it by name alone is as wrong as in
 * the kernel.
 *
 * Static variables belong to the program or shared library that defines them. The first use of one
 * lays the copies of all of that module in memory of the process's default session
 * (kmm_kernel_session()); where there is no session to be had, in memory of the process. Forked
 * children begin with the initial values again.
 *
 * The this_cpu operations take variables of 1, 2, 4 and 8 bytes, aligned to their size. They may be
 * used by any thread and, where thread and module have used one before, in signal handlers. Each is
 * done on the copy of the CPU that the thread runs on, in one step as far as other
 * threads' operations on that copy are concerned: by restartable sequences (rseq(2)) where the
 * system has them, else under a lock a CPU. Between kmm_get_cpu and kmm_put_cpu (or _var, _ptr) no
 * other thread's operation touches the copies of that CPU: they wait. A thread that waits for
 * something else meanwhile makes others wait, too; one that ends has put. Plain reads of other
 * CPUs' copies see values of some moment.
 *
 * Everything here that ends in _1 belongs to the library. Programs have it compiled in, so it is
 * never changed. How it works is said in client/percpu_rseq.c.
 */
#ifndef KMM_PERCPU_H
#define KMM_PERCPU_H

#include <kmm/kmm.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ======================================= functions ===================================== */

/* How many CPUs there can be: copies are numbered from 0. The same for the life of the process, at
 * most 256. */
unsigned int kmm_nr_cpus(void);

/*
 * Takes this CPU for the calling thread, until kmm_put_cpu: its number. Nests; between, the
 * thread's operations are done on this CPU's copies, wherever the system runs it. Waits for another
 * thread that has it.
 */
unsigned int kmm_get_cpu(void);

/* Ends what kmm_get_cpu (kmm_get_cpu_var, kmm_get_cpu_ptr) began. -EPERM: the thread has no CPU. */
int kmm_put_cpu(void);

/* The CPU that the thread has taken, else the one that it runs on at the moment. */
unsigned int kmm_cpu_id(void);

/* ===================================== what they are =================================== */

#define KMM_CPUS_1 256u

/* A CPU: a cache line. */
struct kmm_cpu_1 {
	uint32_t hold;    /* the thread that has taken it, 0: none */
	uint32_t waiters; /* threads that wait for that */
	uint64_t offset;  /* of its copies from CPU 0's */
	uint64_t reserved[6];
};

/* The head of the kernel's struct rseq. */
struct kmm_rseq_1 {
	uint32_t cpu_id_start, cpu_id;
	uint64_t rseq_cs;
	uint32_t flags, node_id, mm_cid, reserved;
};

/* What a thread has. A thread that may not use sequences, or not now, has a struct kmm_rseq_1 of
 * its own in place of the kernel's, with a CPU that is always taken. */
struct kmm_percpu_thread_1 {
	struct kmm_rseq_1 *rseq;
	struct kmm_cpu_1 *cpu; /* KMM_CPUS_1 + 1 of them */
};
extern __thread struct kmm_percpu_thread_1 kmm_percpu_thread_1
	__attribute__((tls_model("initial-exec")));

/* The static variables of a module. */
struct kmm_percpu_module_1 {
	uintptr_t start;      /* of the templates; a variable's place is told from there */
	uintptr_t ready;      /* bytes that have copies: 0, or all */
	uintptr_t delta;      /* from a template to CPU 0's copy */
	uintptr_t end;
	uintptr_t reserved[4]; /* the library's */
};

enum kmm_percpu_op_1 {
	KMM_PERCPU_READ_1,
	KMM_PERCPU_WRITE_1,
	KMM_PERCPU_ADD_1,
	KMM_PERCPU_AND_1,
	KMM_PERCPU_OR_1,
	KMM_PERCPU_XCHG_1,
	KMM_PERCPU_XADD_1,
	KMM_PERCPU_CMPXCHG_1, /* a: expected, b: new */
};

/* The operation in the library; what was there. base: CPU 0's copy. */
uint64_t kmm_percpu_op_1(uintptr_t base, enum kmm_percpu_op_1 op, unsigned int size, uint64_t a,
                         uint64_t b);
/* Takes the CPU; its copy. */
void *kmm_percpu_get_1(uintptr_t base);
/* CPU 0's copy of a static variable; sets the module up. */
uintptr_t kmm_percpu_static_1(struct kmm_percpu_module_1 *m, const volatile void *template_);
void kmm_percpu_register_1(struct kmm_percpu_module_1 *m);
void kmm_percpu_unregister_1(struct kmm_percpu_module_1 *m);

#define KMM_PERCPU_INLINE_1 static inline __attribute__((always_inline, unused))
#define KMM_PERCPU_LIKELY_1(x) __builtin_expect(!!(x), 1)

/* Set in every per-CPU pointer, in no address: no memory is there, and none can be mapped there. */
#if defined(__x86_64__)
#define KMM_PERCPU_1 ((uintptr_t)1 << 63)
#else
#define KMM_PERCPU_1 ((uintptr_t)1 << 54) /* below what top-byte-ignore leaves out */
#endif

/* ======================================= sequences ===================================== */

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define KMM_PERCPU_CALL_1 /* what assembly does it would not see */
#endif
#endif
#if defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
#define KMM_PERCPU_CALL_1
#endif

/*
 * A sequence: the kernel is told of it (rseq_cs), then the CPU is read and its line looked at, and
 * one store ends it. A thread that is interrupted in between goes on at the abort handler, which
 * begins again. The descriptors lie in one group with the function that they are for, so that the
 * linker drops both or none. At the end the kernel is told that it is over, since the code may be
 * unloaded.
 *
 *   770 descriptor   774 entry   771 first instruction   772 behind the last   773 abort handler
 *
 * [t] becomes the CPU's line, [held] who has it: not 0, and the sequence ended there. The body sees
 * the copy through [t] and leaves what was there in [old].
 */
#define KMM_RSEQ_TABLE_1(signature, jump)                                                          \
	".pushsection .data.rel.ro.kmm_rseq_1, \"aw?\", %%progbits\n\t"                            \
	".balign 32\n"                                                                             \
	"770:\t.long 0, 0\n\t"                                                                     \
	".quad 771f, 772f - 771f, 773f\n\t"                                                        \
	".popsection\n\t"                                                                          \
	".pushsection .text.unlikely.kmm_rseq_1, \"ax?\", %%progbits\n\t" signature "\n"           \
	"773:\t" jump " 774f\n\t"                                                                  \
	".popsection\n"

#if defined(__x86_64__) && defined(__LP64__)
#define KMM_RSEQ_1

/* The signature is the displacement of a ud1. */
#define KMM_RSEQ_BEGIN_1(t)                                                                        \
	KMM_RSEQ_TABLE_1(".byte 0x0f, 0xb9, 0x3d\n\t.long 0x53053053", "jmp")                      \
	"774:\tleaq 770b(%%rip), " t "\n\t"                                                        \
	"movq " t ", 8(%[rseq])\n"                                                                 \
	"771:\n\t"
#define KMM_RSEQ_END_1 "\n772:\tmovq $0, 8(%[rseq])\n\t"

#define KMM_RSEQ_VALUE_1(name, bits, body, ...)                                                    \
	KMM_PERCPU_INLINE_1 int kmm_rseq_##name##bits##_1(uintptr_t base, uint##bits##_t a,        \
	                                                  uint##bits##_t b, uint64_t *was)         \
	{                                                                                          \
		struct kmm_percpu_thread_1 *me = &kmm_percpu_thread_1;                             \
		struct kmm_cpu_1 *line;                                                            \
		uint32_t held;                                                                     \
		uint##bits##_t old;                                                                \
                                                                                                   \
		(void)a, (void)b;                                                                  \
		__asm__ volatile(KMM_RSEQ_BEGIN_1("%[t]") "movl 4(%[rseq]), %k[t]\n\t"             \
		                                          "shlq $6, %[t]\n\t"                      \
		                                          "addq %[cpus], %[t]\n\t"                 \
		                                          "movl (%[t]), %[held]\n\t"               \
		                                          "testl %[held], %[held]\n\t"             \
		                                          "jne 772f\n\t"                           \
		                                          "movq 8(%[t]), %[t]\n\t"                 \
		                                          "addq %[base], %[t]\n\t" body            \
		                                                  KMM_RSEQ_END_1                   \
		                 : [t] "=&r"(line), [held] "=&r"(held), [old] "=&q"(old)           \
		                 : [rseq] "r"(me->rseq), [cpus] "r"(me->cpu),                      \
		                   [base] "r"(base) __VA_ARGS__                                    \
		                 : "memory", "cc");                                                \
		*was = old;                                                                        \
		return held == 0;                                                                  \
	}

/* What returns nothing needs a scratch register only: `insn a, copy` is the store. */
#define KMM_RSEQ_STORE_1(name, bits, insn, constraint)                                             \
	KMM_PERCPU_INLINE_1 int kmm_rseq_##name##bits##_1(uintptr_t base, uint##bits##_t a,        \
	                                                  uint##bits##_t b, uint64_t *was)         \
	{                                                                                          \
		struct kmm_percpu_thread_1 *me = &kmm_percpu_thread_1;                             \
                                                                                                   \
		(void)b, (void)was;                                                                \
		__asm__ goto(KMM_RSEQ_BEGIN_1("%%rax") "movl 4(%[rseq]), %%eax\n\t"                \
		                                       "shlq $6, %%rax\n\t"                        \
		                                       "addq %[cpus], %%rax\n\t"                   \
		                                       "cmpl $0, (%%rax)\n\t"                      \
		                                       "jne %l[held]\n\t"                          \
		                                       "movq 8(%%rax), %%rax\n\t" insn             \
		                                       " %[a], (%[base],%%rax)" KMM_RSEQ_END_1     \
		             :                                                                     \
		             : [rseq] "r"(me->rseq), [cpus] "r"(me->cpu), [base] "r"(base),        \
		               [a] constraint(a)                                                   \
		             : "rax", "memory", "cc"                                               \
		             : held);                                                              \
		return 1;                                                                          \
	held:                                                                                      \
		return 0;                                                                          \
	}

#define KMM_RSEQ_SIZE_1(bits, x, constraint)                                                       \
	KMM_RSEQ_STORE_1(write, bits, "mov" x, constraint)                                         \
	KMM_RSEQ_STORE_1(add, bits, "add" x, constraint)                                           \
	KMM_RSEQ_STORE_1(and, bits, "and" x, constraint)                                           \
	KMM_RSEQ_STORE_1(or, bits, "or" x, constraint)                                             \
	KMM_RSEQ_VALUE_1(read, bits, "mov" x " (%[t]), %[old]", )                                  \
	KMM_RSEQ_VALUE_1(xchg, bits, "mov" x " (%[t]), %[old]\n\tmov" x " %[a], (%[t])",           \
	                 , [a] "q"(a))                                                             \
	KMM_RSEQ_VALUE_1(xadd, bits, "mov" x " %[a], %[old]\n\txadd" x " %[old], (%[t])",          \
	                 , [a] "q"(a))                                                             \
	KMM_RSEQ_VALUE_1(cmpxchg, bits,                                                            \
	                 "mov" x " (%[t]), %[old]\n\tcmp" x " %[a], %[old]\n\t"                    \
	                 "jne 772f\n\tmov" x " %[b], (%[t])",                                      \
	                 , [a] "q"(a), [b] "q"(b))
KMM_RSEQ_SIZE_1(8, "b", "iq")
KMM_RSEQ_SIZE_1(16, "w", "ir")
KMM_RSEQ_SIZE_1(32, "l", "ir")
KMM_RSEQ_SIZE_1(64, "q", "er")

#elif defined(__aarch64__) && defined(__LP64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define KMM_RSEQ_1

/* The signature is a brk. */
#define KMM_RSEQ_BEGIN_1(t)                                                                        \
	KMM_RSEQ_TABLE_1(".inst 0xd428bc00", "b")                                                  \
	"774:\tadrp " t ", 770b\n\t"                                                               \
	"add " t ", " t ", :lo12:770b\n\t"                                                         \
	"str " t ", [%[rseq], #8]\n"                                                               \
	"771:\n\t"
#define KMM_RSEQ_END_1 "\n772:\tstr xzr, [%[rseq], #8]\n\t"

/* Acquire: what the last who had the CPU wrote is seen. */
#define KMM_RSEQ_VALUE_1(name, bits, body)                                                         \
	KMM_PERCPU_INLINE_1 int kmm_rseq_##name##bits##_1(uintptr_t base, uint64_t a, uint64_t b,  \
	                                                  uint64_t *was)                           \
	{                                                                                          \
		struct kmm_percpu_thread_1 *me = &kmm_percpu_thread_1;                             \
		struct kmm_cpu_1 *line;                                                            \
		uint32_t held;                                                                     \
		uint64_t old, next;                                                                \
                                                                                                   \
		__asm__ volatile(KMM_RSEQ_BEGIN_1("%[t]") "ldr %w[t], [%[rseq], #4]\n\t"           \
		                                          "add %[t], %[cpus], %[t], lsl #6\n\t"    \
		                                          "ldar %w[held], [%[t]]\n\t"              \
		                                          "cbnz %w[held], 772f\n\t"                \
		                                          "ldr %[t], [%[t], #8]\n\t"               \
		                                          "add %[t], %[base], %[t]\n\t" body       \
		                                                  KMM_RSEQ_END_1                   \
		                 : [t] "=&r"(line), [held] "=&r"(held), [old] "=&r"(old),          \
		                   [next] "=&r"(next)                                              \
		                 : [rseq] "r"(me->rseq), [cpus] "r"(me->cpu), [base] "r"(base),    \
		                   [a] "r"(a), [b] "r"(b)                                          \
		                 : "memory", "cc");                                                \
		*was = old;                                                                        \
		return held == 0;                                                                  \
	}

#define KMM_RSEQ_MODIFY_1(insn, x)                                                                 \
	"ldr" x "[old], [%[t]]\n\t" insn " %[next], %[old], %[a]\n\tstr" x "[next], [%[t]]"
#define KMM_RSEQ_SIZE_1(bits, x)                                                                   \
	KMM_RSEQ_VALUE_1(write, bits, "str" x "[a], [%[t]]")                                       \
	KMM_RSEQ_VALUE_1(add, bits, KMM_RSEQ_MODIFY_1("add", x))                                   \
	KMM_RSEQ_VALUE_1(and, bits, KMM_RSEQ_MODIFY_1("and", x))                                   \
	KMM_RSEQ_VALUE_1(or, bits, KMM_RSEQ_MODIFY_1("orr", x))                                    \
	KMM_RSEQ_VALUE_1(read, bits, "ldr" x "[old], [%[t]]")                                      \
	KMM_RSEQ_VALUE_1(xchg, bits, "ldr" x "[old], [%[t]]\n\tstr" x "[a], [%[t]]")               \
	KMM_RSEQ_VALUE_1(xadd, bits, KMM_RSEQ_MODIFY_1("add", x))                                  \
	KMM_RSEQ_VALUE_1(cmpxchg, bits,                                                            \
	                 "ldr" x "[old], [%[t]]\n\tcmp %[old], %[a]\n\t"                           \
	                 "b.ne 772f\n\tstr" x "[b], [%[t]]")
KMM_RSEQ_SIZE_1(8, "b %w")
KMM_RSEQ_SIZE_1(16, "h %w")
KMM_RSEQ_SIZE_1(32, " %w")
KMM_RSEQ_SIZE_1(64, " %x")
#endif

#ifndef KMM_PERCPU_INSIDE_1

/* ====================================== operations ===================================== */

/* Where the linker put the static variables of this module; 0 where it has none. */
extern char kmm_percpu_start_1[] __asm__("__start_kmm_percpu")
	__attribute__((weak, visibility("hidden")));
extern char kmm_percpu_end_1[] __asm__("__stop_kmm_percpu")
	__attribute__((weak, visibility("hidden")));

/* One of each a module: all its object files have them, the linker takes one. */
__attribute__((weak, visibility("hidden"))) struct kmm_percpu_module_1 kmm_percpu_here_1 = {
	(uintptr_t)kmm_percpu_start_1, 0, 0, (uintptr_t)kmm_percpu_end_1, { 0, 0, 0, 0 }
};

__attribute__((weak, visibility("hidden"), constructor)) void kmm_percpu_begin_1(void);
__attribute__((weak, visibility("hidden"), constructor)) void kmm_percpu_begin_1(void)
{
	if (kmm_percpu_here_1.start != kmm_percpu_here_1.end)
		kmm_percpu_register_1(&kmm_percpu_here_1);
}

__attribute__((weak, visibility("hidden"), destructor)) void kmm_percpu_finish_1(void);
__attribute__((weak, visibility("hidden"), destructor)) void kmm_percpu_finish_1(void)
{
	if (kmm_percpu_here_1.start != kmm_percpu_here_1.end)
		kmm_percpu_unregister_1(&kmm_percpu_here_1);
}

/* CPU 0's copy, of a per-CPU pointer or the address of a static variable. */
KMM_PERCPU_INLINE_1 uintptr_t kmm_percpu_base_1(const volatile void *p)
{
	uintptr_t at = (uintptr_t)p;

	if (at & KMM_PERCPU_1)
		return at & ~KMM_PERCPU_1;
	/* acquire: pairs with the release when the copies are there */
	if (KMM_PERCPU_LIKELY_1(at - kmm_percpu_here_1.start <
	                        __atomic_load_n(&kmm_percpu_here_1.ready, __ATOMIC_ACQUIRE)))
		return at + kmm_percpu_here_1.delta;
	return kmm_percpu_static_1(&kmm_percpu_here_1, p);
}

/* A CPU's copy; the base exists, so the table does. */
KMM_PERCPU_INLINE_1 void *kmm_percpu_copy_1(const volatile void *p, unsigned int cpu)
{
	uintptr_t base = kmm_percpu_base_1(p);

	return (void *)(base + kmm_percpu_thread_1.cpu[cpu].offset);
}

KMM_PERCPU_INLINE_1 void *kmm_percpu_this_1(const volatile void *p)
{
	uintptr_t base = kmm_percpu_base_1(p);
	uint32_t cpu = __atomic_load_n(&kmm_percpu_thread_1.rseq->cpu_id, __ATOMIC_RELAXED);

	if (!KMM_PERCPU_LIKELY_1(cpu < KMM_CPUS_1))
		cpu = kmm_cpu_id();
	return (void *)(base + kmm_percpu_thread_1.cpu[cpu].offset);
}

#if defined(KMM_RSEQ_1) && !defined(KMM_PERCPU_CALL_1)
#define KMM_PERCPU_SIZES_1(OP, name)                                                               \
	case KMM_PERCPU_##OP##_1 * 16 + 1:                                                         \
		done = kmm_rseq_##name##8_1(base, (uint8_t)a, (uint8_t)b, &was);                   \
		break;                                                                             \
	case KMM_PERCPU_##OP##_1 * 16 + 2:                                                         \
		done = kmm_rseq_##name##16_1(base, (uint16_t)a, (uint16_t)b, &was);                \
		break;                                                                             \
	case KMM_PERCPU_##OP##_1 * 16 + 4:                                                         \
		done = kmm_rseq_##name##32_1(base, (uint32_t)a, (uint32_t)b, &was);                \
		break;                                                                             \
	case KMM_PERCPU_##OP##_1 * 16 + 8:                                                         \
		done = kmm_rseq_##name##64_1(base, a, b, &was);                                    \
		break;

/* op and size are constants: all but one case is dropped. */
KMM_PERCPU_INLINE_1 uint64_t kmm_this_cpu_1(const volatile void *p, enum kmm_percpu_op_1 op,
                                            unsigned int size, uint64_t a, uint64_t b)
{
	uintptr_t base = kmm_percpu_base_1(p);
	uint64_t was = 0;
	int done = 0;

	switch (op * 16 + size) {
		KMM_PERCPU_SIZES_1(READ, read)
		KMM_PERCPU_SIZES_1(WRITE, write)
		KMM_PERCPU_SIZES_1(ADD, add)
		KMM_PERCPU_SIZES_1(AND, and)
		KMM_PERCPU_SIZES_1(OR, or)
		KMM_PERCPU_SIZES_1(XCHG, xchg)
		KMM_PERCPU_SIZES_1(XADD, xadd)
		KMM_PERCPU_SIZES_1(CMPXCHG, cmpxchg)
	default:
		break;
	}
	return KMM_PERCPU_LIKELY_1(done) ? was : kmm_percpu_op_1(base, op, size, a, b);
}
#else
KMM_PERCPU_INLINE_1 uint64_t kmm_this_cpu_1(const volatile void *p, enum kmm_percpu_op_1 op,
                                            unsigned int size, uint64_t a, uint64_t b)
{
	return kmm_percpu_op_1(kmm_percpu_base_1(p), op, size, a, b);
}
#endif

/* A value of 1, 2, 4 or 8 bytes as a number, whatever its type; and back. */
KMM_PERCPU_INLINE_1 uint64_t kmm_percpu_bits_1(const void *p, unsigned int size)
{
	uint8_t b;
	uint16_t h;
	uint32_t w;
	uint64_t d;

	switch (size) {
	case 1:
		return __builtin_memcpy(&b, p, 1), b;
	case 2:
		return __builtin_memcpy(&h, p, 2), h;
	case 4:
		return __builtin_memcpy(&w, p, 4), w;
	default:
		return __builtin_memcpy(&d, p, 8), d;
	}
}

KMM_PERCPU_INLINE_1 void kmm_percpu_value_1(void *p, uint64_t bits, unsigned int size)
{
	uint8_t b = (uint8_t)bits;
	uint16_t h = (uint16_t)bits;
	uint32_t w = (uint32_t)bits;

	switch (size) {
	case 1:
		__builtin_memcpy(p, &b, 1);
		break;
	case 2:
		__builtin_memcpy(p, &h, 2);
		break;
	case 4:
		__builtin_memcpy(p, &w, 4);
		break;
	default:
		__builtin_memcpy(p, &bits, 8);
	}
}

/* The size of a variable, which is 1, 2, 4 or 8: else the array has none. */
#define KMM_PERCPU_SIZE_1(pcp)                                                                     \
	((unsigned int)(sizeof(pcp) +                                                              \
	                0 * sizeof(char[sizeof(pcp) == 1 || sizeof(pcp) == 2 ||                    \
	                                                sizeof(pcp) == 4 || sizeof(pcp) == 8       \
	                                        ? 1                                                \
	                                        : -1])))
#define KMM_PERCPU_BITS_1(v) kmm_percpu_bits_1(&(v), (unsigned int)sizeof(v))

/* A number as an operand; no result. */
#define KMM_PERCPU_VOID_1(pcp, OP, number)                                                         \
	((void)kmm_this_cpu_1(&(pcp), OP, KMM_PERCPU_SIZE_1(pcp), (uint64_t)(number), 0))

/* A result of the variable's type, from an expression for what was there. */
#define KMM_PERCPU_RESULT_1(pcp, bits)                                                             \
	__extension__({                                                                            \
		__typeof__(pcp) kmm_result_;                                                       \
		kmm_percpu_value_1((void *)&kmm_result_, bits, KMM_PERCPU_SIZE_1(pcp));            \
		kmm_result_;                                                                       \
	})

/* ======================================= macros ========================================
 *
 * pcp is a static variable, *p or p->member of a per-CPU pointer p; ptr is p, &p->member or
 * &variable. Each argument is evaluated once.
 */

/* type name, with an initial value or `static` as it may be. DECLARE: for a header. */
#define KMM_DEFINE_PER_CPU(type, name)                                                             \
	__attribute__((section("kmm_percpu"))) __typeof__(type) name
#define KMM_DECLARE_PER_CPU(type, name)                                                            \
	extern __attribute__((section("kmm_percpu"))) __typeof__(type) name
/* No other variable in its cache lines. */
#define KMM_DEFINE_PER_CPU_ALIGNED(type, name)                                                     \
	__attribute__((section("kmm_percpu"), aligned(64))) __typeof__(type) name

/* Every CPU's number in an integer variable. */
#define kmm_for_each_possible_cpu(cpu)                                                             \
	for ((cpu) = 0; (unsigned int)(cpu) < kmm_nr_cpus(); (cpu)++)

/* A CPU's copy: its address, and itself. */
#define kmm_per_cpu_at(ptr, cpu)                                                                   \
	((__typeof__(&*(ptr)))kmm_percpu_copy_1((ptr), (unsigned int)(cpu)))
#define kmm_per_cpu(pcp, cpu) (*kmm_per_cpu_at(&(pcp), cpu))
/* The copy of the CPU that the thread runs on at this moment: it may be another's in the next. */
#define kmm_this_cpu_ptr(ptr) ((__typeof__(&*(ptr)))kmm_percpu_this_1(ptr))

/* The copy of this CPU, which is the thread's until put; see kmm_get_cpu. */
#define kmm_get_cpu_ptr(ptr) ((__typeof__(&*(ptr)))kmm_percpu_get_1(kmm_percpu_base_1(ptr)))
#define kmm_put_cpu_ptr(ptr) ((void)(ptr), (void)kmm_put_cpu())
#define kmm_get_cpu_var(pcp) (*kmm_get_cpu_ptr(&(pcp)))
#define kmm_put_cpu_var(pcp) ((void)&(pcp), (void)kmm_put_cpu())

#define kmm_this_cpu_add(pcp, n) KMM_PERCPU_VOID_1(pcp, KMM_PERCPU_ADD_1, n)
#define kmm_this_cpu_sub(pcp, n) KMM_PERCPU_VOID_1(pcp, KMM_PERCPU_ADD_1, -(uint64_t)(n))
#define kmm_this_cpu_inc(pcp) KMM_PERCPU_VOID_1(pcp, KMM_PERCPU_ADD_1, 1)
#define kmm_this_cpu_dec(pcp) KMM_PERCPU_VOID_1(pcp, KMM_PERCPU_ADD_1, -UINT64_C(1))
#define kmm_this_cpu_and(pcp, n) KMM_PERCPU_VOID_1(pcp, KMM_PERCPU_AND_1, n)
#define kmm_this_cpu_or(pcp, n) KMM_PERCPU_VOID_1(pcp, KMM_PERCPU_OR_1, n)

#define kmm_this_cpu_read(pcp)                                                                     \
	KMM_PERCPU_RESULT_1(                                                                       \
		pcp, kmm_this_cpu_1(&(pcp), KMM_PERCPU_READ_1, KMM_PERCPU_SIZE_1(pcp), 0, 0))
#define kmm_this_cpu_write(pcp, value)                                                             \
	__extension__({                                                                            \
		__typeof__(pcp) kmm_new_ = (value);                                                \
		(void)kmm_this_cpu_1(&(pcp), KMM_PERCPU_WRITE_1, KMM_PERCPU_SIZE_1(pcp),           \
		                     KMM_PERCPU_BITS_1(kmm_new_), 0);                              \
	})
/* What was there. */
#define kmm_this_cpu_xchg(pcp, value)                                                              \
	__extension__({                                                                            \
		__typeof__(pcp) kmm_new_ = (value);                                                \
		KMM_PERCPU_RESULT_1(pcp, kmm_this_cpu_1(&(pcp), KMM_PERCPU_XCHG_1,                 \
		                                        KMM_PERCPU_SIZE_1(pcp),                    \
		                                        KMM_PERCPU_BITS_1(kmm_new_), 0));          \
	})
#define kmm_this_cpu_cmpxchg(pcp, expected, value)                                                 \
	__extension__({                                                                            \
		__typeof__(pcp) kmm_old_ = (expected), kmm_new_ = (value);                         \
		KMM_PERCPU_RESULT_1(pcp, kmm_this_cpu_1(&(pcp), KMM_PERCPU_CMPXCHG_1,              \
		                                        KMM_PERCPU_SIZE_1(pcp),                    \
		                                        KMM_PERCPU_BITS_1(kmm_old_),               \
		                                        KMM_PERCPU_BITS_1(kmm_new_)));             \
	})
/* The new value. */
#define kmm_this_cpu_add_return(pcp, n)                                                            \
	__extension__({                                                                            \
		uint64_t kmm_n_ = (uint64_t)(n);                                                   \
		KMM_PERCPU_RESULT_1(pcp, kmm_n_ + kmm_this_cpu_1(&(pcp), KMM_PERCPU_XADD_1,        \
		                                                 KMM_PERCPU_SIZE_1(pcp), kmm_n_,   \
		                                                 0));                              \
	})
#define kmm_this_cpu_sub_return(pcp, n) kmm_this_cpu_add_return(pcp, -(uint64_t)(n))
#define kmm_this_cpu_inc_return(pcp) kmm_this_cpu_add_return(pcp, 1)
#define kmm_this_cpu_dec_return(pcp) kmm_this_cpu_add_return(pcp, -UINT64_C(1))

#endif /* KMM_PERCPU_INSIDE_1 */

#ifdef __cplusplus
}
#endif
#endif
