/* SPDX-License-Identifier: MIT */
/*
 * What surrounds memory in kernel code, so that a module's source compiles as a part of a program:
 * module_init and module_exit, printk, EXPORT_SYMBOL, __init and a few more. Included by <kmm/kernel.h>
 * where KMM_KERNEL_MODULE is defined before, and by nothing else: these names are not to turn up in
 * programs that did not ask for them. Every one that the program has already is left as it is.
 *
 *	#define KMM_KERNEL_MODULE
 *	#include <kmm/kernel.h>
 *	static int __init demo_init(void) { ... return 0; }
 *	static void __exit demo_exit(void) { ... }
 *	module_init(demo_init);
 *	module_exit(demo_exit);
 *
 * The program's main() calls kmm_modules_init(), which calls the init functions of all its modules in
 * the order in which they were linked (in a file: written), up to the first that fails, and kmm_modules_exit(), which calls
 * the exit functions in reverse. Both see the modules of the program or shared library that calls.
 *
 * printk writes to stderr. KERN_INFO and its like are taken off; errors of memory are said by
 * kmm_error_text().
 */
#ifndef KMM_MODULE_H
#define KMM_MODULE_H

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- modules ---- */

typedef int (*kmm_initcall_t)(void);
typedef void (*kmm_exitcall_t)(void);

/* The sections' bounds, by the linker; weak: a program may have no module. */
extern const kmm_initcall_t kmm_initcalls_begin[] __asm__("__start_kmm_initcalls")
	__attribute__((weak, visibility("hidden")));
extern const kmm_initcall_t kmm_initcalls_end[] __asm__("__stop_kmm_initcalls")
	__attribute__((weak, visibility("hidden")));
extern const kmm_exitcall_t kmm_exitcalls_begin[] __asm__("__start_kmm_exitcalls")
	__attribute__((weak, visibility("hidden")));
extern const kmm_exitcall_t kmm_exitcalls_end[] __asm__("__stop_kmm_exitcalls")
	__attribute__((weak, visibility("hidden")));

#if defined(__has_attribute)
#if __has_attribute(no_reorder)
#define KMM_MODULE_ORDER __attribute__((no_reorder))
#endif
#endif
#ifndef KMM_MODULE_ORDER
#define KMM_MODULE_ORDER
#endif
#define KMM_MODULE_CALL(section_, type, fn)                                                        \
	KMM_MODULE_ORDER static const type kmm_call_of_##fn                                        \
		__attribute__((used, section(section_))) = fn

/* 0, or what the first init function returned that failed. */
static inline int kmm_modules_init(void)
{
	const kmm_initcall_t *call;
	int r = 0;

	for (call = kmm_initcalls_begin; call != kmm_initcalls_end && r == 0; call++)
		r = (*call)();
	return r;
}

static inline void kmm_modules_exit(void)
{
	const kmm_exitcall_t *call;

	for (call = kmm_exitcalls_end; call != kmm_exitcalls_begin;)
		(*--call)();
}

#ifndef module_init
#define module_init(fn) KMM_MODULE_CALL("kmm_initcalls", kmm_initcall_t, fn)
#endif
#ifndef module_exit
#define module_exit(fn) KMM_MODULE_CALL("kmm_exitcalls", kmm_exitcall_t, fn)
#endif

/* A declaration that says nothing, as often as one likes. */
#define KMM_MODULE_NOTHING struct kmm_module_nothing
#ifndef MODULE_LICENSE
#define MODULE_LICENSE(text) KMM_MODULE_NOTHING
#endif
#ifndef MODULE_AUTHOR
#define MODULE_AUTHOR(text) KMM_MODULE_NOTHING
#endif
#ifndef MODULE_DESCRIPTION
#define MODULE_DESCRIPTION(text) KMM_MODULE_NOTHING
#endif
#ifndef MODULE_VERSION
#define MODULE_VERSION(text) KMM_MODULE_NOTHING
#endif
#ifndef EXPORT_SYMBOL
#define EXPORT_SYMBOL(name) KMM_MODULE_NOTHING
#endif
#ifndef EXPORT_SYMBOL_GPL
#define EXPORT_SYMBOL_GPL(name) KMM_MODULE_NOTHING
#endif
#ifndef THIS_MODULE
#define THIS_MODULE NULL
#endif
#ifndef __init
#define __init
#endif
#ifndef __exit
#define __exit
#endif
#ifndef __initdata
#define __initdata
#endif
#ifndef __read_mostly
#define __read_mostly
#endif

/* ---- printk ---- */

#define KERN_SOH "\001"
#define KERN_EMERG KERN_SOH "0"
#define KERN_ALERT KERN_SOH "1"
#define KERN_CRIT KERN_SOH "2"
#define KERN_ERR KERN_SOH "3"
#define KERN_WARNING KERN_SOH "4"
#define KERN_NOTICE KERN_SOH "5"
#define KERN_INFO KERN_SOH "6"
#define KERN_DEBUG KERN_SOH "7"
#define KERN_CONT KERN_SOH "c"

/* How many bytes were written. */
static inline __attribute__((format(printf, 1, 2))) int printk(const char *fmt, ...)
{
	va_list args;
	int n;

	if (fmt[0] == KERN_SOH[0] && fmt[1])
		fmt += 2;
	va_start(args, fmt);
	n = vfprintf(stderr, fmt, args);
	va_end(args);
	return n;
}

#ifndef pr_fmt
#define pr_fmt(fmt) fmt
#endif
#define pr_emerg(fmt, ...) printk(KERN_EMERG pr_fmt(fmt), ##__VA_ARGS__)
#define pr_alert(fmt, ...) printk(KERN_ALERT pr_fmt(fmt), ##__VA_ARGS__)
#define pr_crit(fmt, ...) printk(KERN_CRIT pr_fmt(fmt), ##__VA_ARGS__)
#define pr_err(fmt, ...) printk(KERN_ERR pr_fmt(fmt), ##__VA_ARGS__)
#define pr_warn(fmt, ...) printk(KERN_WARNING pr_fmt(fmt), ##__VA_ARGS__)
#define pr_notice(fmt, ...) printk(KERN_NOTICE pr_fmt(fmt), ##__VA_ARGS__)
#define pr_info(fmt, ...) printk(KERN_INFO pr_fmt(fmt), ##__VA_ARGS__)
#define pr_cont(fmt, ...) printk(KERN_CONT fmt, ##__VA_ARGS__)
#define pr_debug(fmt, ...) ((void)0)

/* ---- what every kernel source uses ---- */

#ifndef likely
#define likely(x) __builtin_expect(!!(x), 1)
#endif
#ifndef unlikely
#define unlikely(x) __builtin_expect(!!(x), 0)
#endif
#ifndef ARRAY_SIZE
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#endif
#ifndef container_of
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))
#endif
#ifndef BUG_ON
#define BUG_ON(condition)                                                                          \
	do {                                                                                       \
		if (unlikely(condition)) {                                                         \
			printk(KERN_CRIT "kernel BUG at %s:%d!\n", __FILE__, __LINE__);            \
			abort();                                                                   \
		}                                                                                  \
	} while (0)
#endif
#ifndef WARN_ON
#define WARN_ON(condition) kmm_warn_on(!!(condition), __FILE__, __LINE__)
#endif
static inline int kmm_warn_on(int condition, const char *file, int line)
{
	if (unlikely(condition))
		printk(KERN_WARNING "WARNING: at %s:%d\n", file, line);
	return condition;
}

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

#endif
