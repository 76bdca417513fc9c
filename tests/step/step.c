/* SPDX-License-Identifier: MIT */
/*
 * Single steps. A client traces itself for its parent and stops by SIGSTOP where its steps begin and
 * end; that stop is seen by the tracer alone and holds up no other thread of the process. A thread
 * of the daemon is seized, which needs the right to trace it: the daemon is not dumpable, so that is
 * root's.
 */
#include "tests/step/step.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/kmmctl/connection.h"

bool step_all(void)
{
	const char *all = getenv("KMM_TEST_ALL");

	return all && *all == '1';
}

void step_require(void)
{
	if (geteuid() == 0)
		return;
	printf("skipped: stepping through the daemon, which is not dumpable, needs root\n");
	exit(77);
}

/* ---- observer ---- */

struct observer {
	struct connection *connection;
	const char *cache;
	long active;
	unsigned count;
};

static void observed(const struct observer *o, enum connection_result r)
{
	if (r == CONNECTION_OK)
		return;
	fprintf(stderr, "the daemon cannot be asked: %s\n", connection_error(o->connection));
	must(!"observed");
}

struct observer *observer_open(const struct daemon *d)
{
	struct observer *o = calloc(1, sizeof(*o));

	must(o);
	observed(o, connection_open(&o->connection, d->socket, NULL));
	return o;
}

struct observer *observer_close(struct observer *o)
{
	if (o)
		connection_close(o->connection);
	free(o);
	return NULL;
}

static bool count_session(void *ctx, const void *item)
{
	(void)item;
	((struct observer *)ctx)->count++;
	return true;
}

unsigned observer_sessions(struct observer *o)
{
	static kmm_v1_Session session;
	kmm_v1_ListSessionsRequest q = kmm_v1_ListSessionsRequest_init_zero;

	o->count = 0;
	observed(o, connection_stream(o->connection, kmm_v1_Method_INSPECTOR_LIST_SESSIONS,
				      kmm_v1_ListSessionsRequest_fields, &q, kmm_v1_Session_fields,
				      &session, count_session, o));
	return o->count;
}

static bool look_at_cache(void *ctx, const void *item)
{
	struct observer *o = ctx;
	const kmm_v1_Cache *c = item;

	if (strcmp(c->name, o->cache) == 0)
		o->active = (long)c->active_objects;
	return true;
}

long observer_active(struct observer *o, const char *cache)
{
	static kmm_v1_Cache item;
	kmm_v1_ListCachesRequest q = kmm_v1_ListCachesRequest_init_zero;

	o->cache = cache;
	o->active = -1;
	observed(o, connection_stream(o->connection, kmm_v1_Method_INSPECTOR_LIST_CACHES,
				      kmm_v1_ListCachesRequest_fields, &q, kmm_v1_Cache_fields,
				      &item, look_at_cache, o));
	return o->active;
}

static bool print_finding(void *ctx, const void *item)
{
	fprintf(stderr, "fsck: %s\n", ((const kmm_v1_Finding *)item)->text);
	((struct observer *)ctx)->count++;
	return true;
}

bool observer_clean(struct observer *o)
{
	static kmm_v1_Finding finding;
	kmm_v1_FsckRequest q = kmm_v1_FsckRequest_init_zero;

	o->count = 0;
	observed(o, connection_stream(o->connection, kmm_v1_Method_ADMIN_FSCK,
				      kmm_v1_FsckRequest_fields, &q, kmm_v1_Finding_fields, &finding,
				      print_finding, o));
	return o->count == 0;
}

/* ---- clients ---- */

/* The tracer and who is traced take turns, which is several times faster on one CPU than on two. */
static void same_cpu(pid_t tid)
{
	cpu_set_t all, one;
	int cpu = 0;

	if (sched_getaffinity(0, sizeof(all), &all) < 0)
		return;
	while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	/* it works without, too */
	if (sched_setaffinity(0, sizeof(one), &one) == 0 && tid)
		(void)!sched_setaffinity(tid, sizeof(one), &one);
}

static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, __WALL) < 0)
		must(errno == EINTR);
	return status;
}

void step_begin(void)
{
	raise(SIGSTOP);
}

void step_end(void)
{
	raise(SIGSTOP);
}

static bool stopped_by(int status, int signal)
{
	return WIFSTOPPED(status) && WSTOPSIG(status) == signal;
}

void step_client_start(struct step_client *c, step_body body, void *arg)
{
	pid_t parent = getpid();
	int status;

	c->over = false;
	same_cpu(0);
	c->pid = fork();
	must(c->pid >= 0);
	if (c->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent || ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
			_exit(1);
		body(arg);
		_exit(0);
	}
	status = wait_for(c->pid);
	must(stopped_by(status, SIGSTOP));
}

unsigned long step_client_run(struct step_client *c, unsigned long n)
{
	unsigned long i;

	for (i = 0; i < n && !c->over; i++) {
		int status;

		must(ptrace(PTRACE_SINGLESTEP, c->pid, NULL, NULL) == 0);
		status = wait_for(c->pid);
		c->over = stopped_by(status, SIGSTOP);
		must(c->over || stopped_by(status, SIGTRAP));
	}
	return i;
}

int step_client_finish(struct step_client *c)
{
	int status;

	do {
		must(ptrace(PTRACE_CONT, c->pid, NULL, NULL) == 0);
		status = wait_for(c->pid);
	} while (stopped_by(status, SIGSTOP) || stopped_by(status, SIGTRAP));
	c->pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void step_client_kill(struct step_client *c)
{
	int status;

	must(kill(c->pid, SIGKILL) == 0);
	do
		status = wait_for(c->pid);
	while (!WIFSIGNALED(status) && !WIFEXITED(status));
	c->pid = 0;
}

/* ---- a thread of the daemon ---- */

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
	must(WIFSTOPPED(wait_for(t->tid)));
	same_cpu(t->tid);
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

static uint64_t base_of(pid_t pid)
{
	char path[64];
	unsigned long base;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	f = fopen(path, "re");
	must(f && fscanf(f, "%lx", &base) == 1);
	fclose(f);
	return base;
}

static void run_to(pid_t pid, uint64_t address)
{
	struct user_regs_struct regs;
	long code;
	int status;

	errno = 0;
	code = ptrace(PTRACE_PEEKTEXT, pid, (void *)address, NULL);
	must(errno == 0);
	must(ptrace(PTRACE_POKETEXT, pid, (void *)address,
		    (void *)((code & ~0xffl) | 0xcc)) == 0);
	for (;;) {
		must(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
		status = wait_for(pid);
		must(WIFSTOPPED(status));
		if (WSTOPSIG(status) == SIGTRAP && status >> 16 == 0)
			break;
		/* a thread of it was seized along: it runs by itself */
		if (status >> 16 == PTRACE_EVENT_CLONE) {
			unsigned long tid;

			must(ptrace(PTRACE_GETEVENTMSG, pid, NULL, &tid) == 0);
			wait_for((pid_t)tid);
			ptrace(PTRACE_DETACH, tid, NULL, NULL);
		}
	}
	must(ptrace(PTRACE_POKETEXT, pid, (void *)address, (void *)code) == 0);
	must(ptrace(PTRACE_GETREGS, pid, NULL, &regs) == 0);
	must(regs.rip == address + 1);
	regs.rip = address;
	must(ptrace(PTRACE_SETREGS, pid, NULL, &regs) == 0);
}

uint64_t step_thread_address(const struct step_thread *t, const char *function)
{
	const char *file = getenv("KMMD");

	return base_of(t->process) + symbol_of(file && *file ? file : "./kmmd", function);
}

void step_thread_run_to(struct step_thread *t, const char *function)
{
	run_to(t->tid, step_thread_address(t, function));
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
	status = wait_for(t->tid);
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
		status = wait_for(t->tid);
	while (WIFSTOPPED(status));
}
