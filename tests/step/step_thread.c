/* SPDX-License-Identifier: MIT */
/*
 * A thread of the daemon in single steps. It is seized, which needs the right to trace it: the daemon
 * is not dumpable, so that is root's.
 */
#include "tests/step/step.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t thread_find(pid_t process, const char *name)
{
	char path[64];
	pid_t tid = 0;
	struct dirent *e;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)process);
	dir = opendir(path);
	must(dir);
	while (!tid && (e = readdir(dir))) {
		char comm[340], text[32] = "";
		FILE *f;

		if (e->d_name[0] == '.')
			continue;
		snprintf(comm, sizeof(comm), "%s/%s/comm", path, e->d_name);
		f = fopen(comm, "re");
		if (!f)
			continue;
		if (fgets(text, sizeof(text), f)) {
			text[strcspn(text, "\n")] = 0;
			if (strcmp(text, name) == 0)
				tid = (pid_t)strtol(e->d_name, NULL, 10);
		}
		fclose(f);
	}
	closedir(dir);
	return tid;
}

void step_thread_seize(struct step_thread *t, pid_t process, const char *name)
{
	t->process = process;
	t->tid = thread_find(process, name);
	must(t->tid > 0);
	must(ptrace(PTRACE_SEIZE, t->tid, NULL, NULL) == 0);
	must(ptrace(PTRACE_INTERRUPT, t->tid, NULL, NULL) == 0);
	must(WIFSTOPPED(step_wait(t->tid)));
	step_same_cpu(t->tid);
}

/* ---- functions of kmmd ---- */

/* Where a function of kmmd begins, in its file's addresses. */
static uint64_t symbol_of(const char *file, const char *name)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	uint64_t value = 0;
	struct stat st;
	uint8_t *map;
	unsigned i;

	must(fd >= 0 && fstat(fd, &st) == 0);
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	must(map != MAP_FAILED && memcmp(map, ELFMAG, SELFMAG) == 0);
	const Elf64_Ehdr *e = (const Elf64_Ehdr *)map;
	const Elf64_Shdr *s = (const Elf64_Shdr *)(map + e->e_shoff);
	for (i = 0; i < e->e_shnum && !value; i++) {
		const Elf64_Sym *sym = (const Elf64_Sym *)(map + s[i].sh_offset);
		const char *text;
		size_t n, j;

		if (s[i].sh_type != SHT_SYMTAB)
			continue;
		text = (const char *)map + s[s[i].sh_link].sh_offset;
		n = s[i].sh_size / sizeof(*sym);
		for (j = 0; j < n && !value; j++)
			if (strcmp(text + sym[j].st_name, name) == 0)
				value = sym[j].st_value;
	}
	munmap(map, (size_t)st.st_size);
	must(value);
	return value;
}

/* Where its program begins in memory: a sanitizer's shadow lies below. */
static uint64_t base_of(pid_t pid)
{
	char path[64], exe[PATH_MAX] = "", line[PATH_MAX + 128];
	unsigned long base = 0, begin;
	FILE *f;
	int at = 0;

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	must(readlink(path, exe, sizeof(exe) - 1) > 0);
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	f = fopen(path, "re");
	must(f);
	while (!base && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		if (sscanf(line, "%lx-%*x %*s %*s %*s %*s %n", &begin, &at) == 1 &&
		    strcmp(line + at, exe) == 0)
			base = begin;
	}
	fclose(f);
	must(base);
	return base;
}

uint64_t step_thread_address(const struct step_thread *t, const char *function)
{
	const char *file = getenv("KMMD");

	return base_of(t->process) + symbol_of(file && *file ? file : "./kmmd", function);
}

void step_thread_run_to(struct step_thread *t, const char *function)
{
	int status;

	must(step_run_to(t->tid, step_thread_address(t, function), 0, &status));
}

uint64_t step_thread_at(const struct step_thread *t)
{
	struct user_regs_struct regs;

	must(ptrace(PTRACE_GETREGS, t->tid, NULL, &regs) == 0);
	return regs.rip;
}

uint64_t step_thread_return(const struct step_thread *t)
{
	struct user_regs_struct regs;
	uint64_t address;

	must(ptrace(PTRACE_GETREGS, t->tid, NULL, &regs) == 0);
	errno = 0;
	address = (uint64_t)ptrace(PTRACE_PEEKDATA, t->tid, (void *)regs.rsp, NULL);
	must(errno == 0);
	return address;
}

bool step_thread_one(struct step_thread *t)
{
	int status;

	if (ptrace(PTRACE_SINGLESTEP, t->tid, NULL, NULL) < 0) {
		must(errno == ESRCH);
		return false;
	}
	status = step_wait(t->tid);
	return WIFSTOPPED(status);
}

static void at_instruction(pid_t tid, struct user_regs_struct *regs, uint8_t code[16])
{
	long word[2];

	must(ptrace(PTRACE_GETREGS, tid, NULL, regs) == 0);
	errno = 0;
	word[0] = ptrace(PTRACE_PEEKTEXT, tid, (void *)regs->rip, NULL);
	word[1] = errno ? 0 : ptrace(PTRACE_PEEKTEXT, tid, (void *)(regs->rip + 8), NULL);
	memcpy(code, word, 16);
}

bool step_thread_waits(struct step_thread *t)
{
	struct user_regs_struct regs;
	uint8_t code[16];

	at_instruction(t->tid, &regs, code);
	if (code[0] != 0x0f || code[1] != 0x05) /* syscall */
		return false;
	/* poll, futex, epoll_wait, epoll_pwait */
	return regs.rax == 7 || (regs.rax == 202 && (regs.rsi & 0x7f) % 2 == 0 &&
				 (regs.rsi & 0x7f) != 2) ||
	       (regs.rax == 202 && (regs.rsi & 0x7f) == 9) || regs.rax == 232 || regs.rax == 281;
}

bool step_thread_at_lock(pid_t tid)
{
	struct user_regs_struct regs;
	uint8_t code[16];

	at_instruction(tid, &regs, code);
	return code[0] == 0xf0;
}

void step_thread_release(struct step_thread *t)
{
	ptrace(PTRACE_DETACH, t->tid, NULL, NULL);
}

void step_thread_kill(struct step_thread *t)
{
	int status;

	must(kill(t->process, SIGKILL) == 0);
	/* the tracer is told of the thread's end first; its process is somebody else's child */
	do
		status = step_wait(t->tid);
	while (WIFSTOPPED(status));
}
