/* SPDX-License-Identifier: MIT */
/*
 * High memory in the library (client/highmem.c, kmap.c, and what other files do with its pages),
 * against a daemon in the test that moves pages when the test says so (fake_pages.h).
 */
#include <sys/resource.h>

#include "tests/suite.h"
#include "tests/unit/fake_pages.h"
#include "tests/unit/test_child.h"

#define K (&fake.k)
#define SLOTS HIGHMEM_SLOTS

/* ---- one page ---- */

START_TEST(a_page_has_an_address_while_it_is_mapped)
{
	struct kmm_page *p = page_new();
	uint8_t *at;

	errno = 0;
	ck_assert_ptr_null(kmm_page_address(K, p));
	ck_assert_int_eq(errno, ENOTSUP);
	ck_assert_ptr_nonnull(strstr(kmm_error_text(), "kmm_kmap"));
	errno = 0;
	at = map(p);
	ck_assert_int_eq(errno, 0);
	ck_assert(is_mapped(p));
	ck_assert_ptr_eq(kmm_page_address(K, p), at);
	ck_assert_ptr_eq(kmm_virt_to_page(K, at + 4095), p);
	at[17] = 42;
	ck_assert_uint_eq(frame_bytes(fake_frame(index_of(p)))[17], 42);
	unmap(p);
	ck_assert(!is_mapped(p));
	ck_assert_ptr_null(kmm_page_address(K, p));
	ck_assert_ptr_null(kmm_virt_to_page(K, at));
	ck_assert_int_eq(kmm_kunmap(K, p), -ENOENT);
	ck_assert_ptr_eq(map(p), at); /* nothing else took the place */
	ck_assert_uint_eq(at[17], 42);
	ck_assert_uint_eq(fake.sections, 1);
	unmap(p);
	free_page(p);
	no_map(p, ENOENT);
}
END_TEST

START_TEST(mappings_nest)
{
	struct kmm_page *p = page_new();
	uint8_t *at = map(p);
	int i;

	for (i = 0; i < 5; i++)
		ck_assert_ptr_eq(map(p), at);
	for (i = 0; i < 5; i++) {
		unmap(p);
		ck_assert(is_mapped(p));
		ck_assert_ptr_eq(kmm_page_address(K, p), at);
	}
	unmap(p);
	ck_assert(!is_mapped(p));
	ck_assert_int_eq(kmm_kunmap(K, p), -ENOENT);
	free_page(p);
}
END_TEST

START_TEST(mappings_by_address)
{
	struct kmm_page *p = page_new(), *q = page_new();
	uint8_t *a = kmm_kmap_local(K, p), *b = kmm_kmap_local(K, q);
	int there;

	ck_assert_ptr_nonnull(a);
	ck_assert_ptr_nonnull(b);
	ck_assert_int_eq(kmm_kunmap_local(K, a + 100), 0); /* not the last one first, either */
	ck_assert_int_eq(kmm_kunmap_local(K, a), -EINVAL);
	ck_assert_int_eq(kmm_kunmap_local(K, b), 0);
	ck_assert_int_eq(kmm_kunmap_local(K, &there), -EINVAL);
	ck_assert_int_eq(kmm_kunmap_local(K, NULL), -EINVAL);
	ck_assert_int_eq(kmm_kunmap_local(K, K->window + 4096), 0);
	ck_assert_int_eq(kmm_kunmap_local(NULL, a), -EINVAL);
}
END_TEST

/* Of the window: there is nothing to map. */
START_TEST(low_memory_is_where_it_is)
{
	ck_assert_ptr_eq(map(page_of(7)), K->window + 7 * 4096);
	thread_cache_get(K);
	ck_assert_ptr_eq(map(page_of(7)), K->window + 7 * 4096);
	unmap(page_of(7));
	unmap(page_of(7));
	unmap(page_of(7));
	ck_assert_uint_eq(fake.sections, 0);
}
END_TEST

START_TEST(what_cannot_be_mapped)
{
	struct kmm_page there, *p = page_new();
	int quick;

	for (quick = 0; quick < 2; quick++) {
		errno = 0;
		ck_assert_ptr_null(kmm_kmap(NULL, p));
		ck_assert_int_eq(errno, EINVAL);
		ck_assert_int_eq(kmm_kunmap(NULL, p), -EINVAL);
		no_map(NULL, EINVAL);
		no_map(&there, EINVAL);
		no_map((struct kmm_page *)((char *)p + 1), EINVAL);
		no_map(page_of(PAGES), EINVAL);
		no_map(page_of(PAGES - 1), ENOENT);
		no_map(page_of(FIRST + 1000), ENOENT);
		no_map(page_of(fake_frame(index_of(p))), ENOENT); /* the frame is not the page */
		ck_assert_int_eq(kmm_kunmap(K, NULL), -EINVAL);
		ck_assert_int_eq(kmm_kunmap(K, page_of(PAGES - 1)), -ENOENT);
		map(p); /* from now on the thread has a cache of the session */
		unmap(p);
	}
	K->control.section[1] = CONTROL_SECTION_NONE;
	K->mapped[1] = 0;
	no_map(page_of(SECTION_FRAMES), EPERM);
	ck_assert_int_eq(kmm_kunmap(K, page_of(SECTION_FRAMES)), -EPERM);
}
END_TEST

/* ---- moves ---- */

START_TEST(what_was_written_is_there_after_a_move)
{
	struct kmm_page *p = page_new();
	uint32_t i, frame, section = 0;
	uint8_t *at = map(p);
	uint64_t was;

	strcpy((char *)at, "some text");
	for (i = 0; i < HIGH; i += 100) {
		ck_assert(!fake_move(index_of(p), NULL)); /* it is mapped */
		unmap(p);
		was = kmm_page_to_pfn(K, p);
		ck_assert_uint_eq(was, fake_frame(index_of(p)));
		fake.frame_hand = i;
		ck_assert(fake_move(index_of(p), NULL));
		frame = fake_frame(index_of(p));
		ck_assert_uint_ne(frame, was);
		ck_assert_uint_eq(kmm_page_to_pfn(K, p), frame);
		ck_assert_ptr_eq(kmm_pfn_to_page(K, frame), p);
		ck_assert_ptr_eq(kmm_pfn_to_page(K, was), page_of((uint32_t)was));
		if (i % 200 == 0) {
			ck_assert_ptr_eq(kmm_kmap_local(K, p), at);
		} else {
			atomic_store(&tc->session, NULL); /* the long way */
			ck_assert_ptr_eq(map(p), at);
		}
		ck_assert_str_eq((char *)at, "some text");
		at[100]++;
		ck_assert_uint_eq(frame_bytes(frame)[100], at[100]);
		section |= 1u << (frame >> SECTION_ORDER);
	}
	ck_assert_uint_eq(section, 0xfc);
	unmap(p);
	free_page(p);
	ck_assert_uint_eq(kmm_page_to_pfn(K, p), UINT64_MAX);
	ck_assert_int_eq(errno, ENOENT);
}
END_TEST

static pthread_t mover;

static void *move_on(void *arg)
{
	uint32_t page = (uint32_t)(uintptr_t)arg;
	int i;

	for (i = 0; i < 2000; i++)
		sched_yield();
	owner_store(word_at(page),
	            owner_moved(owner_load(word_at(page)), OWNER_HELD, owner_id(owner_load(word_at(page)))));
	return NULL;
}

static void begin_move(uint32_t page)
{
	uint64_t w = owner_load(word_at(page));

	owner_store(word_at(page), owner_moved(w, OWNER_MOVING, owner_id(w)));
	ck_assert_int_eq(pthread_create(&mover, NULL, move_on, (void *)(uintptr_t)page), 0);
}

/* Whatever is done with a page waits until the daemon has moved it. */
START_TEST(a_move_is_waited_for)
{
	struct kmm_page *p = page_new(), *pages[1] = { p };
	uint32_t page = index_of(p);
	kmm_handle_t handle;

	begin_move(page);
	map(p);
	pthread_join(mover, NULL);
	ck_assert(is_mapped(p));
	unmap(p);
	begin_move(page);
	map(p); /* the short way */
	unmap(p);
	pthread_join(mover, NULL);
	begin_move(page);
	handle = kmm_handle(K, p);
	ck_assert_uint_ne(handle, 0);
	pthread_join(mover, NULL);
	begin_move(page);
	ck_assert_ptr_eq(kmm_pointer(K, handle), p);
	pthread_join(mover, NULL);
	begin_move(page);
	ck_assert_int_eq(kmm_page_count(K, p), 1);
	ck_assert_ptr_eq(kmm_adopt(K, handle), p);
	pthread_join(mover, NULL);
	begin_move(page);
	ck_assert_int_eq(kmm_send(K, p, OTHER), 0);
	pthread_join(mover, NULL);
	begin_move(page);
	free_page(p);
	pthread_join(mover, NULL);
	p = pages[0] = page_new();
	begin_move(index_of(p));
	ck_assert_int_eq(kmm_free_pages_bulk(K, 0, 1, pages), 0);
	pthread_join(mover, NULL);
	ck_assert_uint_eq(fake.frees, 2);
}
END_TEST

/* The daemon died over it and did not come back. */
START_TEST(a_move_without_end)
{
	struct kmm_page *p = page_new(), *pages[1] = { p };
	owner_word_t *word = word_at(index_of(p));
	uint64_t w = owner_load(word);

	owner_store(word, owner_moved(w, OWNER_MOVING, ME));
	no_map(p, EAGAIN);
	ck_assert_int_eq(kmm_free_pages(K, p, 0), -EAGAIN);
	ck_assert_int_eq(kmm_free_pages_bulk(K, 0, 1, pages), -EAGAIN);
	ck_assert_uint_eq(kmm_handle(K, p), 0);
	ck_assert_int_eq(errno, EAGAIN);
	ck_assert_int_eq(kmm_send(K, p, OTHER), -EAGAIN);
	ck_assert_uint_eq(owner_load(word), owner_moved(w, OWNER_MOVING, ME));
	owner_store(word, w);
	map(p);
}
END_TEST

static struct kmm_page *moved_page;

static void move_it(uint16_t method)
{
	fake.on_call = NULL;
	if (method == kmm_v1_Method_ALLOCATOR_GET_SECTIONS) {
		fake.frame_hand = HIGH - SECTION_FRAMES;
		ck_assert(fake_move(index_of(moved_page), NULL));
	}
}

/* It is in another section than the one that was asked for when its descriptor was read. */
START_TEST(a_move_to_another_section_meanwhile)
{
	struct kmm_page *p = moved_page = page_new();
	uint32_t frame = fake_frame(index_of(p));

	frame_bytes(frame)[5] = 99;
	fake.on_call = move_it;
	ck_assert_uint_eq(map(p)[5], 99);
	ck_assert_uint_eq(fake.moves, 1);
	ck_assert_uint_eq(fake.sections, 2);
	ck_assert_uint_ne(fake_frame(index_of(p)) >> SECTION_ORDER, frame >> SECTION_ORDER);
}
END_TEST

/* ---- larger blocks ---- */

START_TEST(a_block_is_mapped_page_by_page)
{
	struct kmm_page *b = kmm_alloc_pages(K, KMM_GFP_HIGHUSER, 4);
	uint32_t head, i;
	uint8_t *at[16];

	ck_assert_ptr_nonnull(b);
	head = index_of(b);
	ck_assert_uint_lt(head, FRAMES);
	for (i = 0; i < 16; i++) {
		at[i] = map(b + i);
		ck_assert_ptr_eq(kmm_virt_to_page(K, at[i]), b + i);
		ck_assert_uint_eq(kmm_page_to_pfn(K, b + i), head + i);
		memset(at[i], (int)i + 1, 4096);
	}
	ck_assert_ptr_eq(kmm_kmap(K, b + 3), at[3]);
	unmap(b + 3);
	for (i = 0; i < 16; i++)
		ck_assert_uint_eq(frame_bytes(head + i)[4095], i + 1);
	ck_assert_uint_eq(fake.holds, 0);
	for (i = 0; i < 15; i++)
		unmap(b + i);
	ck_assert_int_eq(kmm_free_pages(K, b, 4), -EBUSY);
	unmap(b + 15);
	ck_assert_int_eq(kmm_kunmap(K, b + 15), -ENOENT);
	ck_assert_int_eq(kmm_free_pages(K, b, 4), 0);
	no_map(b + 1, ENOENT);
}
END_TEST

/* The daemon's answer is looked at: there is no block of order 1 among pages that move, or at the end. */
START_TEST(answers_that_make_no_sense)
{
	static const uint32_t page[] = { FRAMES - 1, FRAMES, PAGES - 1, PAGES, UINT32_MAX };
	size_t i;

	for (i = 0; i < sizeof(page) / sizeof(page[0]); i++) {
		fake.say_page = page[i];
		if (page[i] < PAGES)
			owner_store(word_at(page[i]), owner_moved(0, OWNER_OFFERED, ME));
		errno = 0;
		ck_assert_ptr_null(kmm_alloc_pages(K, KMM_GFP_HIGHUSER, 1));
		ck_assert_int_eq(errno, EPROTO);
	}
}
END_TEST

START_TEST(zeroed_blocks)
{
	unsigned int order;

	memset(frame_bytes(FIRST), 0xaa, (size_t)HIGH << FRAME_SHIFT);
	for (order = 0; order <= KMM_MAX_ORDER; order++) {
		struct kmm_page *b =
		        kmm_alloc_pages(K, KMM_GFP_HIGHUSER_MOVABLE | KMM_GFP_ZERO, order);
		size_t size = (size_t)4096 << order;
		uint8_t *at;

		ck_assert_ptr_nonnull(b);
		at = frame_bytes(fake_frame(index_of(b)));
		ck_assert(!at[0] && !memcmp(at, at + 1, size - 1));
		ck_assert(!highmem_mapped(K, index_of(b), order));
		ck_assert_int_eq(kmm_free_pages(K, b, order), 0);
	}
}
END_TEST

/* ---- slots ---- */

START_TEST(as_many_mappings_as_there_are)
{
	static struct kmm_page *p[SLOTS + 8];
	static uint8_t *at[SLOTS];
	uint32_t i;

	for (i = 0; i < SLOTS + 8; i++)
		p[i] = page_new();
	for (i = 0; i < SLOTS; i++) {
		at[i] = map(p[i]);
		memcpy(at[i], &i, sizeof(i));
	}
	no_map(p[SLOTS], ENOMEM);
	ck_assert_ptr_nonnull(strstr(kmm_error_text(), "4096"));
	ck_assert(!is_mapped(p[SLOTS]));
	ck_assert_ptr_eq(map(p[17]), at[17]); /* that is no further one */
	unmap(p[17]);
	unmap(p[100]);
	ck_assert_ptr_eq(map(p[SLOTS]), at[100]);
	no_map(p[100], ENOMEM);
	unmap(p[SLOTS]);
	map(p[100]);
	for (i = 0; i < SLOTS; i++) {
		ck_assert_int_eq(memcmp(at[i], &i, sizeof(i)), 0);
		unmap(p[i]);
	}
	/* idle slots serve others; what was used lately stays */
	for (i = 0; i < 8; i++)
		map(p[SLOTS + i]);
	for (i = 0; i < SLOTS; i++) {
		uint8_t *q = map(p[i]);

		ck_assert_int_eq(memcmp(q, &i, sizeof(i)), 0);
		unmap(p[i]);
	}
}
END_TEST

/* What fails on the way leaves no trace. */
START_TEST(failures_are_undone)
{
	struct kmm_page *p = page_new(), *q = page_of_other();

	fake.refuse = -EPERM;
	fake.refused = kmm_v1_Method_ALLOCATOR_GET_SECTIONS;
	no_map(p, EPERM);
	no_map(q, EPERM);
	ck_assert(!is_mapped(p));
	ck_assert(!fake.held[index_of(q)]);
	errno = 0;
	ck_assert_ptr_null(kmm_alloc_pages(K, KMM_GFP_HIGHUSER | KMM_GFP_ZERO, 0));
	ck_assert_int_eq(errno, EPERM);
	ck_assert_ptr_null(kmm_alloc_pages(K, KMM_GFP_HIGHUSER | KMM_GFP_ZERO, 3));
	ck_assert_uint_eq(fake.frees, 2);
	fake.refuse = 0;
	fake.readonly = true;
	no_map(p, EACCES);
	no_map(q, EACCES);
	ck_assert(!is_mapped(p));
	ck_assert(!fake.held[index_of(q)]);
	ck_assert_ptr_null(kmm_page_address(K, p));
	ck_assert_ptr_null(kmm_alloc_pages(K, KMM_GFP_HIGHUSER | KMM_GFP_ZERO, 3));
	ck_assert_uint_eq(fake.frees, 3);
	ck_assert(fake_move(index_of(p), NULL));
	free_page(p);
}
END_TEST

/* ---- threads ---- */

#define THREADS 4
#define SHARED 6

static struct kmm_page *shared[SHARED];
static _Atomic bool stop;

static void *map_and_look(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;
	int i;

	thread_cache_get(K);
	for (i = 0; i < 30000; i++) {
		uint32_t n = (uint32_t)rand_r(&seed) % SHARED;
		uint32_t *a = kmm_kmap(K, shared[n]), *b;

		ck_assert_ptr_nonnull(a);
		ck_assert_uint_eq(a[0], n);
		/* relaxed: counted by all threads, exact at the end */
		__atomic_fetch_add(&a[1], 1, __ATOMIC_RELAXED);
		if (i % 7 == 0) {
			b = kmm_kmap(K, shared[n]);
			ck_assert_ptr_eq(a, b);
			ck_assert_int_eq(kmm_kunmap_local(K, b), 0);
		}
		ck_assert_int_eq(kmm_kunmap(K, shared[n]), 0);
	}
	return NULL;
}

static void *move_about(void *arg)
{
	unsigned int n = 0;

	(void)arg;
	while (!atomic_load(&stop)) {
		pthread_mutex_lock(&fake.lock);
		fake_move(index_of(shared[n++ % SHARED]), NULL);
		pthread_mutex_unlock(&fake.lock);
		sched_yield();
	}
	return NULL;
}

START_TEST(threads_map_what_is_moved)
{
	pthread_t t[THREADS], m;
	uint32_t i, counted = 0;

	for (i = 0; i < SHARED; i++) {
		uint32_t *at;

		shared[i] = page_new();
		at = (uint32_t *)(void *)map(shared[i]);
		at[0] = i;
		at[1] = 0;
		unmap(shared[i]);
	}
	ck_assert_int_eq(pthread_create(&m, NULL, move_about, NULL), 0);
	for (i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, map_and_look,
		                                (void *)(uintptr_t)(i + 1)),
		                 0);
	for (i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	atomic_store(&stop, true);
	pthread_join(m, NULL);
	for (i = 0; i < SHARED; i++) {
		ck_assert(!is_mapped(shared[i]));
		counted += ((uint32_t *)(void *)map(shared[i]))[1];
	}
	ck_assert_uint_eq(counted, THREADS * 30000);
	ck_assert_uint_gt(fake.moves, 0);
}
END_TEST

/* ---- fork ---- */

static uint8_t *inherited;

static void look_in_child(void)
{
	unsigned char there;
	char line[256];
	FILE *f;

	/* not there: neither the mapping nor the descriptors of sections */
	CHILD_CHECK(mincore(inherited, 4096, &there) < 0 && errno == ENOMEM);
	f = fopen("/proc/self/maps", "re");
	CHILD_CHECK(f);
	while (fgets(line, sizeof(line), f))
		CHILD_CHECK(!strstr(line, "memfd:section"));
	highmem_free(K, true);
	section_files_free(K, true);
}

START_TEST(a_child_has_nothing_of_it)
{
	struct kmm_page *p = page_new();
	size_t before = fds_open();

	inherited = map(p);
	ck_assert_uint_eq(fds_open(), before + 1); /* the section's is kept */
	inherited[0] = 1;
	ck_assert_int_eq(child_status(look_in_child), 0);
	inherited[0]++;
	ck_assert_uint_eq(frame_bytes(fake_frame(index_of(p)))[0], 2);
	unmap(p);
}
END_TEST

static int fd_of(uint32_t section)
{
	int fd;

	ck_assert_int_eq(section_fd_get(K, section, &fd), 0);
	section_fd_put(K, section);
	return fd;
}

START_TEST(descriptors_of_sections)
{
	int a = fd_of(3), b;

	ck_assert_int_eq(fd_of(3), a);
	ck_assert_int_eq(fcntl(a, F_GETFD), FD_CLOEXEC);
	ck_assert_uint_eq(fake.sections, 1);
	ck_assert_int_ne(a, fd_of(0));
	ck_assert_uint_eq(fake.sections, 2);
	ck_assert_int_eq(section_fd_get(K, SECTIONS, &b), -EPERM);
	ck_assert_int_eq(section_fd_get(K, UINT32_MAX, &b), -EPERM);
	K->control.section[1] = CONTROL_SECTION_NONE;
	ck_assert_int_eq(section_fd_get(K, 1, &b), -EPERM);
}
END_TEST

static void files_allowed(rlim_t n)
{
	struct rlimit l;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &l), 0);
	l.rlim_cur = n;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &l), 0);
}

/* A quarter of what the process may open, and who was used last is there. */
START_TEST(descriptors_are_few)
{
	size_t before = fds_open();
	uint32_t s;
	int a, b;

	files_allowed(12 * 4);
	for (s = 0; s < SECTIONS; s++)
		fd_of(s);
	ck_assert_uint_eq(fds_open(), before + SECTIONS);
	files_allowed(3 * 4);
	ck_assert(section_file_room());
	section_file_no_room();
	files_allowed(12 * 4);
	ck_assert_uint_eq(fds_open(), before + 2);
	ck_assert_uint_eq(fake.sections, SECTIONS);
	fd_of(SECTIONS - 1);
	fd_of(SECTIONS - 2);
	ck_assert_uint_eq(fake.sections, SECTIONS);

	/* what is in use stays */
	ck_assert_int_eq(section_fd_get(K, SECTIONS - 1, &a), 0);
	ck_assert_int_eq(section_fd_get(K, SECTIONS - 2, &b), 0);
	files_allowed(2 * 4);
	ck_assert(!section_file_room());
	section_fd_put(K, SECTIONS - 1);
	ck_assert(section_file_room());
	section_file_no_room();
	files_allowed(12 * 4);
	ck_assert_uint_eq(fds_open(), before + 1);
	ck_assert_int_eq(fd_of(SECTIONS - 2), b);
	section_fd_put(K, SECTIONS - 2);
	ck_assert_uint_eq(fake.sections, SECTIONS);
	fd_of(SECTIONS - 1);
	ck_assert_uint_eq(fake.sections, SECTIONS + 1);
}
END_TEST

/* A page is where it was shown before: nothing is asked for that. */
START_TEST(mapping_again_takes_no_descriptor)
{
	struct kmm_page *p = page_new(), *q = page_new();

	map(p)[0] = 7;
	unmap(p);
	files_allowed(4);
	ck_assert(section_file_room());
	section_file_no_room();
	files_allowed(12 * 4);
	ck_assert_uint_eq(map(p)[0], 7);
	ck_assert_uint_eq(fake.sections, 1);
	map(q);
	ck_assert_uint_eq(fake.sections, 2);
	unmap(p);
	unmap(q);
}
END_TEST

int main(void)
{
	const struct {
		const char *name;
		const TTest *test[8];
	} cases[] = {
		{ "one page",
		  { a_page_has_an_address_while_it_is_mapped, mappings_nest, mappings_by_address,
		    low_memory_is_where_it_is, what_cannot_be_mapped } },
		{ "moves",
		  { what_was_written_is_there_after_a_move, a_move_is_waited_for,
		    a_move_without_end, a_move_to_another_section_meanwhile } },
		{ "blocks", { a_block_is_mapped_page_by_page, zeroed_blocks, answers_that_make_no_sense } },
		{ "slots", { as_many_mappings_as_there_are, failures_are_undone } },
		{ "threads", { threads_map_what_is_moved } },
		{ "descriptors",
		  { a_child_has_nothing_of_it, descriptors_of_sections, descriptors_are_few,
		    mapping_again_takes_no_descriptor } },
	};
	Suite *s = suite_create("client_highmem");
	size_t i, j;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		TCase *tc_ = tcase_create(cases[i].name);

		tcase_add_checked_fixture(tc_, fake_start, fake_stop);
		tcase_set_timeout(tc_, 60);
		for (j = 0; j < 8 && cases[i].test[j]; j++)
			tcase_add_test(tc_, cases[i].test[j]);
		suite_add_tcase(s, tc_);
	}
	return suite_status(s);
}
