/* SPDX-License-Identifier: MIT */
/*
 * Lists of CPUs as the kernel and taskset write them: "0-3,8".
 */
#ifndef DAEMON_CPU_LIST_H
#define DAEMON_CPU_LIST_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>

bool cpu_list_valid(const char *text);
/* The CPUs of a valid list. */
void cpu_list_read(const char *text, cpu_set_t *ret);
void cpu_list_write(const cpu_set_t *cpus, char *text, size_t size);
/* Those that the process could run on when it began: the first answer is kept, since the daemon
 * confines itself to those that it is told (main.c). Main thread. */
void cpu_list_allowed(cpu_set_t *ret);

#endif
