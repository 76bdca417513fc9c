/* SPDX-License-Identifier: MIT */
/*
 * A peer (harness.h): a process with a session of its own that runs one kmm_ function for each
 * command on descriptor 3 and sends back what it returned. Its argument is the daemon's socket; with
 * another one, a uid, it becomes that user before it opens the session.
 */
#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/integration/harness.h"
#include "tests/integration/objects.h"

/* What EXHAUST got. */
struct hoard {
	struct kmm_page **page;
	size_t n, room;
	unsigned order;
};

static int64_t page_result(struct kmm *k, const struct kmm_page *page)
{
	return page ? (int64_t)kmm_page_to_pfn(k, page) : -errno;
}

/* p is an address or, of high memory, the page. */
static int64_t pointer_result(struct kmm *k, const void *p)
{
	struct kmm_page *page;

	if (!p)
		return -errno;
	page = kmm_virt_to_page(k, p);
	return page ? page_result(k, page) : page_result(k, p);
}

/* How the functions of sharing name the block: high memory, which has no address, by its page. */
static void *pfn_address(struct kmm *k, uint64_t pfn)
{
	struct kmm_page *page = kmm_pfn_to_page(k, pfn);
	void *p;

	must(page);
	p = kmm_page_address(k, page);
	return !p && errno == ENOTSUP ? page : p;
}

/* Writes the pattern over a block, or looks at it; high memory page by page. */
static int64_t pattern(struct kmm *k, const struct peer_command *c)
{
	struct kmm_page *page = kmm_pfn_to_page(k, c->a);
	bool fill = c->op == PEER_FILL;
	int64_t same = 1;
	void *p;

	must(page);
	p = kmm_page_address(k, page);
	if (p && !fill)
		return block_check(p, (unsigned)c->b, c->c);
	if (p)
		block_fill(p, (unsigned)c->b, c->c);
	for (unsigned i = 0; !p && i < 1u << c->b; i++) {
		void *at = kmm_kmap(k, page + i);

		if (!at)
			return -errno;
		if (fill)
			block_fill(at, 0, c->c + i);
		else
			same = same && block_check(at, 0, c->c + i);
		must(kmm_kunmap(k, page + i) == 0);
	}
	return fill ? 0 : same;
}

static int64_t hoard_fill(struct hoard *h, struct kmm *k, kmm_gfp_t gfp, unsigned order)
{
	struct kmm_page *page;

	must(h->n == 0 || h->order == order);
	h->order = order;
	while ((page = kmm_alloc_pages(k, gfp, order)) != NULL) {
		if (h->n == h->room) {
			h->room = h->room ? 2 * h->room : 1024;
			must((h->page = realloc(h->page, h->room * sizeof(*h->page))) != NULL);
		}
		h->page[h->n++] = page;
	}
	return (int64_t)h->n;
}

static int64_t hoard_release(struct hoard *h, struct kmm *k, uint64_t n)
{
	while (n-- > 0 && h->n > 0) {
		int r = kmm_free_pages(k, h->page[--h->n], h->order);

		if (r < 0)
			return r;
	}
	return 0;
}

static int64_t cache_blocks(struct kmm *k, unsigned order, size_t n)
{
	struct kmm_page *page[512];
	int r = 0;

	must(n <= 512);
	for (size_t i = 0; i < n; i++)
		if (!(page[i] = kmm_alloc_pages(k, KMM_GFP_NOWAIT, order)))
			return -errno;
	for (size_t i = 0; i < n && r == 0; i++)
		r = kmm_free_pages(k, page[i], order);
	return r;
}

static int64_t run(struct kmm *k, struct hoard *h, const struct peer_command *c)
{
	unsigned b = (unsigned)c->b;

	switch ((enum peer_op)c->op) {
	case PEER_ID:
		return kmm_session_id(k);
	case PEER_ALLOC:
		return page_result(k, kmm_alloc_pages(k, (kmm_gfp_t)c->a, b));
	case PEER_FREE:
		return kmm_free_pages(k, kmm_pfn_to_page(k, c->a), b);
	case PEER_HANDLE: {
		kmm_handle_t handle = kmm_handle(k, pfn_address(k, c->a));

		return handle ? (int64_t)handle : -errno;
	}
	case PEER_POINTER:
		return pointer_result(k, kmm_pointer(k, c->a));
	case PEER_ADOPT:
		return pointer_result(k, kmm_adopt(k, c->a));
	case PEER_SEND:
		return kmm_send(k, pfn_address(k, c->a), (kmm_session_id_t)c->b);
	case PEER_GET:
		return kmm_get(k, pfn_address(k, c->a));
	case PEER_GET_HANDLE:
		return pointer_result(k, kmm_get_handle(k, c->a));
	case PEER_PUT:
		return kmm_put(k, pfn_address(k, c->a));
	case PEER_COUNT:
		return kmm_page_count(k, kmm_pfn_to_page(k, c->a));
	case PEER_ORDER:
		return kmm_page_order(k, kmm_pfn_to_page(k, c->a));
	case PEER_FILL:
	case PEER_CHECK:
		return pattern(k, c);
	case PEER_KMAP:
		return kmm_kmap(k, kmm_pfn_to_page(k, c->a)) ? 0 : -errno;
	case PEER_KUNMAP:
		return kmm_kunmap(k, kmm_pfn_to_page(k, c->a));
	case PEER_EXHAUST:
		return hoard_fill(h, k, (kmm_gfp_t)c->a, b);
	case PEER_CACHE:
		return cache_blocks(k, (unsigned)c->a, c->b);
	case PEER_RELEASE:
		return hoard_release(h, k, c->a);
	case PEER_FLUSH:
		return kmm_flush(k);
	case PEER_CANCEL:
		return kmm_cancel(k);
	case PEER_TIMEOUT:
		return kmm_set_timeout(k, (uint32_t)c->a);
	case PEER_CLOSE:
		return kmm_close(k);
	case PEER_EXIT:
		exit(0);
	case PEER_OBJECTS:
		break;
	}
	must(!"an operation that exists");
}

/* For good. */
static void become(uid_t uid)
{
	must(setgroups(0, NULL) == 0);
	must(setresgid(uid, uid, uid) == 0);
	must(setresuid(uid, uid, uid) == 0);
}

int main(int argc, char *argv[])
{
	struct kmm_options o = { .size = sizeof(o), .address = argv[1] };
	struct hoard h = { NULL, 0, 0, 0 };
	struct peer_command c;
	bool open = true;
	struct kmm *k;
	ssize_t n;

	must(argc == 2 || argc == 3);
	if (argc == 3)
		become((uid_t)strtoul(argv[2], NULL, 10));
	must(kmm_open(&k, &o) == 0);
	while ((n = read(PEER_FD, &c, sizeof(c))) == (ssize_t)sizeof(c)) {
		int64_t value = c.op >= PEER_OBJECTS ? peer_run_objects(k, &c) : run(k, &h, &c);

		if (c.op == PEER_CLOSE)
			open = false;
		must(write(PEER_FD, &value, sizeof(value)) == (ssize_t)sizeof(value));
	}
	must(n == 0);
	if (open)
		must(kmm_close(k) == 0);
	free(h.page);
	return 0;
}
