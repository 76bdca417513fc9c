/* SPDX-License-Identifier: MIT */
/*
 * The caches that every text on the slab layer tells of, at work as the kernel works with them: process
 * descriptors, inodes, and the inodes of sockets with their init_once. Much smaller ones, of course.
 */
#include "tests/kernel/kernel_test.h"

/* ---- process descriptors: task_struct ---- */

#define TASK_RUNNING 0
#define TASK_DEAD 1
#define ARCH_MIN_TASKALIGN 64

struct task_struct {
	int state;
	int pid;
	struct task_struct *parent;
	char comm[16];
	char rest[1600];
};

static struct kmem_cache *task_struct_cachep;
static int last_pid;

static struct task_struct *alloc_task_struct(void)
{
	return kmem_cache_alloc(task_struct_cachep, GFP_KERNEL);
}

static void free_task_struct(struct task_struct *tsk)
{
	kmem_cache_free(task_struct_cachep, tsk);
}

/* What fork does with the parent's descriptor. */
static struct task_struct *dup_task_struct(struct task_struct *orig)
{
	struct task_struct *tsk = alloc_task_struct();

	if (!tsk)
		return NULL;
	if (orig)
		*tsk = *orig;
	else
		memset(tsk, 0, sizeof(*tsk));
	tsk->parent = orig;
	tsk->pid = ++last_pid;
	tsk->state = TASK_RUNNING;
	return tsk;
}

static void __init fork_init(void)
{
	/* without it there is no machine: a failure is a panic */
	task_struct_cachep = kmem_cache_create("task_struct", sizeof(struct task_struct),
					       ARCH_MIN_TASKALIGN, SLAB_PANIC, NULL);
}

/* ---- inodes ---- */

struct inode {
	unsigned long i_ino;
	unsigned int i_count;
	struct inode *i_hash_next;
	char i_data[400];
};

static struct kmem_cache *inode_cachep;
static unsigned int inodes_made;

/* What is the same in every free inode. */
static void init_inode_once(void *foo)
{
	struct inode *inode = (struct inode *)foo;

	memset(inode, 0, sizeof(*inode));
	inodes_made++;
}

static void __init inode_init(void)
{
	inode_cachep = kmem_cache_create("inode_cache", sizeof(struct inode), 0,
					 SLAB_RECLAIM_ACCOUNT | SLAB_PANIC | SLAB_MEM_SPREAD,
					 init_inode_once);
}

static struct inode *alloc_inode(unsigned long ino)
{
	struct inode *inode = kmem_cache_alloc(inode_cachep, GFP_KERNEL);

	if (inode) {
		BUG_ON(inode->i_count != 0 || inode->i_hash_next != NULL);
		inode->i_ino = ino;
		inode->i_count = 1;
	}
	return inode;
}

static void destroy_inode(struct inode *inode)
{
	inode->i_count = 0; /* as the constructor made it */
	inode->i_hash_next = NULL;
	kmem_cache_free(inode_cachep, inode);
}

/* ---- sockets: an inode inside something larger ---- */

struct socket {
	int type;
	void *sk;
};

struct socket_alloc {
	struct socket socket;
	struct inode vfs_inode;
};

static struct kmem_cache *sock_inode_cachep;
static unsigned int sockets_made;

/* The constructor of the 2.6.24 text takes the cache, too. */
static void init_once(struct kmem_cache *cachep, void *foo)
{
	struct socket_alloc *ei = (struct socket_alloc *)foo;

	BUG_ON(cachep != sock_inode_cachep);
	memset(&ei->vfs_inode, 0, sizeof(ei->vfs_inode));
	sockets_made++;
}

static int __init init_inodecache(void)
{
	sock_inode_cachep = kmem_cache_create("sock_inode_cache", sizeof(struct socket_alloc), 0,
					      (SLAB_HWCACHE_ALIGN | SLAB_RECLAIM_ACCOUNT |
					       SLAB_MEM_SPREAD),
					      init_once);
	if (sock_inode_cachep == NULL)
		return -ENOMEM;
	return 0;
}

static struct inode *sock_alloc_inode(int type)
{
	struct socket_alloc *ei = kmem_cache_alloc(sock_inode_cachep, GFP_KERNEL);

	if (!ei)
		return NULL;
	ei->socket.type = type;
	ei->socket.sk = NULL;
	return &ei->vfs_inode;
}

static struct socket_alloc *SOCKET_I(struct inode *inode)
{
	return container_of(inode, struct socket_alloc, vfs_inode);
}

static void sock_destroy_inode(struct inode *inode)
{
	kmem_cache_free(sock_inode_cachep, SOCKET_I(inode));
}

/* ---- the tests ---- */

/* What slabinfo says: `name active ...`. */
static bool slabinfo_has(const char *name)
{
	static const char *const args[] = { "slabinfo", NULL };
	char *text, line[80];
	bool has;

	ck_assert_int_eq(daemon_ctl(&kernel_daemon, &text, args), 0);
	snprintf(line, sizeof(line), "\n%-17s ", name);
	has = strstr(text, line) != NULL;
	free(text);
	return has;
}

START_TEST(processes_fork_and_end)
{
	static struct task_struct *task[300];
	unsigned int i, n = 0;

	fork_init();
	ck_assert_ptr_nonnull(task_struct_cachep);
	task[n++] = dup_task_struct(NULL);
	strcpy(task[0]->comm, "init");
	while (n < ARRAY_SIZE(task)) {
		task[n] = dup_task_struct(task[n / 2]);
		ck_assert_ptr_nonnull(task[n]);
		ck_assert_uint_eq((unsigned long)task[n] % ARCH_MIN_TASKALIGN, 0);
		n++;
	}
	ck_assert(slabinfo_has("task_struct"));
	for (i = 0; i < n; i++) {
		ck_assert_int_eq(task[i]->pid, (int)i + 1);
		ck_assert_str_eq(task[i]->comm, "init");
		ck_assert(i == 0 || task[i]->parent == task[i / 2]);
	}
	while (n > 0) {
		task[--n]->state = TASK_DEAD;
		free_task_struct(task[n]);
	}
	kmem_cache_destroy(task_struct_cachep);
	ck_assert(!slabinfo_has("task_struct"));
	kernel_is_clean();
}
END_TEST

START_TEST(inodes_come_back_constructed)
{
	static struct inode *inode[500];
	unsigned long i, round;

	inodes_made = 0;
	inode_init();
	for (round = 0; round < 4; round++) {
		for (i = 0; i < ARRAY_SIZE(inode); i++) {
			inode[i] = alloc_inode(i);
			ck_assert_ptr_nonnull(inode[i]);
			if (i > 0)
				inode[i]->i_hash_next = inode[i - 1];
		}
		for (i = 0; i < ARRAY_SIZE(inode); i++) {
			ck_assert_uint_eq(inode[i]->i_ino, i);
			destroy_inode(inode[i]);
		}
	}
	ck_assert_uint_ge(inodes_made, ARRAY_SIZE(inode));
	ck_assert_uint_lt(inodes_made, 2 * ARRAY_SIZE(inode));
	ck_assert(slabinfo_has("inode_cache"));
	kmem_cache_destroy(inode_cachep);
	kernel_is_clean();
}
END_TEST

START_TEST(sockets_have_their_inode_inside)
{
	struct inode *inode[64];
	int i, round;

	sockets_made = 0;
	/* the constructor compares: so the cache has to be known before the first one is made */
	ck_assert_int_eq(init_inodecache(), 0);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < 64; i++) {
			inode[i] = sock_alloc_inode(i);
			ck_assert_ptr_nonnull(inode[i]);
			ck_assert_uint_eq(inode[i]->i_count, 0);
		}
		for (i = 0; i < 64; i++) {
			ck_assert_int_eq(SOCKET_I(inode[i])->socket.type, i);
			sock_destroy_inode(inode[i]);
		}
	}
	ck_assert_uint_ge(sockets_made, 64);
	ck_assert_uint_lt(sockets_made, 128);
	ck_assert(slabinfo_has("sock_inode_cache"));
	kmem_cache_destroy(sock_inode_cachep);
	kernel_is_clean();
}
END_TEST

KERNEL_CASES(demo)
{
	TCase *t = kernel_case(s, "demo");

	tcase_add_test(t, processes_fork_and_end);
	tcase_add_test(t, inodes_come_back_constructed);
	tcase_add_test(t, sockets_have_their_inode_inside);
}
