/* SPDX-License-Identifier: MIT */
/*
 * What <kmm/kernel.h> needs of the library: the process's default session, and functions of the kernel
 * that are more than one of ours.
 *
 * The default session is opened by whoever needs it first. Threads that do so at the same time open
 * one each, and all but one of them close theirs again: no lock is held over a connection that may
 * take its time, and none is left behind in a forked child. A child finds its parent's session by the
 * mark (process.c), and opens its own in its place; the parent's stays as it is, because caches and
 * other things that the child inherited refer to it, to be refused.
 */
#include "client/object.h"

#include <stdlib.h>
#include <string.h>

static _Atomic(struct kmm *) default_session;

static bool session_is_ours(const struct kmm *k)
{
	return k && k->mark == process_mark();
}

static struct kmm *session_now(void)
{
	/* acquire: pairs with the exchange that published it */
	return atomic_load_explicit(&default_session, memory_order_acquire);
}

/* Opens a session in the place of `was`; 0, or -EBUSY: somebody else did, it is *ret. */
static int session_make(struct kmm *was, const struct kmm_options *opts, struct kmm **ret)
{
	struct kmm *k;
	int r = kmm_open(&k, opts);

	if (r < 0)
		return r;
	/* release: pairs with the acquire in session_now() */
	if (!atomic_compare_exchange_strong_explicit(&default_session, &was, k,
	                                             memory_order_acq_rel, memory_order_acquire)) {
		kmm_close(k);
		*ret = was;
		return -EBUSY;
	}
	*ret = k;
	return 0;
}

int kmm_kernel_init(const struct kmm_options *opts)
{
	ERRNO_SCOPE;
	struct kmm *was = session_now(), *k;
	int r = session_is_ours(was) ? -EBUSY : session_make(was, opts, &k);

	return r == -EBUSY ? error_set(EBUSY, "the process has a default session already") : r;
}

struct kmm *kmm_kernel_session(void)
{
	struct kmm *k = session_now();
	int saved = errno, r;

	if (likely(session_is_ours(k)))
		return k;
	r = session_make(k, NULL, &k);
	if (r < 0 && r != -EBUSY)
		return errno_null(r);
	errno = saved;
	return k;
}

int kmm_kernel_exit(void)
{
	ERRNO_SCOPE;
	struct kmm *k = session_now();

	/* acq_rel: who finds none opens another */
	if (!session_is_ours(k) ||
	    !atomic_compare_exchange_strong_explicit(&default_session, &k, NULL,
	                                             memory_order_acq_rel, memory_order_acquire))
		return 0;
	return kmm_close(k);
}

/* ---- caches ---- */

struct kmm_cache *kmm_kernel_cache_create(const char *name, size_t size, size_t align,
                                          kmm_slab_flags_t flags, void (*ctor)(void),
                                          enum kmm_ctor_style style)
{
	struct ctor c = { .call = (void (*)(void *))ctor, .style = style };
	struct kmm *k = kmm_kernel_session();

	if (k && style > KMM_CTOR_OBJECT_CACHE_FLAGS)
		return errno_null(error_set(EINVAL, "%u is no way to call a constructor", style));
	if (!k && (flags & KMM_SLAB_PANIC))
		cache_panic(name);
	return k ? cache_create_styled(k, name, size, align, flags, c) : NULL;
}

/* ---- references to blocks ---- */

struct kmm_page *kmm_kernel_head_page(struct kmm *k, struct kmm_page *page)
{
	unsigned int order;
	uint32_t pfn, head;
	int r = session_check(k);

	if (r == 0)
		r = page_pfn(k, page, &pfn);
	if (r < 0)
		return errno_null(r);
	if (pfn >= k->frames || !page_head(k, pfn, &head, &order))
		return page;
	return page_at(k, head);
}

int kmm_kernel_get_page(struct kmm *k, struct kmm_page *page)
{
	int saved = errno, r = 0;

	page = kmm_kernel_head_page(k, page);
	if (!page)
		r = -errno;
	errno = saved;
	return r < 0 ? r : kmm_get(k, page);
}

/* A hold of this session goes first; when it has none, what is left is its being the owner. */
int kmm_kernel_put_page(struct kmm *k, struct kmm_page *page)
{
	int saved = errno, order, r = 0;
	char text[ERROR_TEXT_MAX];

	page = kmm_kernel_head_page(k, page);
	if (!page)
		r = -errno;
	errno = saved;
	if (r < 0)
		return r;
	error_text_copy(text);
	r = kmm_put(k, page);
	if (r != -EPERM)
		return r;
	error_text_put(text);
	order = kmm_page_order(k, page);
	return order < 0 ? order : kmm_free_pages(k, page, (unsigned int)order);
}

/* ---- mempools ---- */

struct kmm_mempool *kmm_kernel_kmalloc_pool(struct kmm *k, size_t size, size_t min_nr)
{
	int saved = errno, r = session_enter(k);
	struct kmm_cache *c;

	if (r < 0)
		return errno_null(r);
	c = kmalloc_cache(k, size, &r);
	session_leave(k);
	errno = saved;
	return c ? kmm_mempool_create(c, min_nr) : errno_null(r);
}

/* ---- bytes ---- */

/* Only what is ours and nobody else's to read is written over. */
static void wipe(struct kmm *k, const void *p)
{
	struct thing t;
	uint64_t w;

	if ((uintptr_t)p - (uintptr_t)k->window >= k->window_size || thing_of(k, p, &t) < 0)
		return;
	w = owner_load(t.word);
	if (owner_is(w, OWNER_HELD, k->id) && !(w & OWNER_KEPT) && section_map(k, t.pfn) == 0)
		explicit_bzero(thing_name(k, &t), t.view ? t.view->size : KMM_PAGE_SIZE << t.order);
}

int kmm_kfree_sensitive(struct kmm *k, const void *p)
{
	SESSION_SCOPE(k, r);
	char text[ERROR_TEXT_MAX];

	if (r < 0)
		return r;
	if (!p)
		return 0;
	error_text_copy(text);
	wipe(k, p);
	error_text_put(text); /* what is wrong with p the free says */
	return kmm_kfree(k, p);
}
