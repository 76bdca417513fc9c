/* SPDX-License-Identifier: MIT */
/*
 * An upgrade: a pool of version 3, made byte for byte (test_version3.h), is taken over and is one of
 * this version afterwards; versions before and behind these are refused with what to do.
 *
 * The conversion is killed at every store that it makes. What a killed process leaves in shared memory
 * is what it had stored, so it is stepped through once, instruction by instruction, and a picture is
 * taken of the three parts that it may write whenever one of them has changed:
 *
 *     m15     session records, superblock  --+
 *     ledger0 head                         --+--> picture after store 1, 2, 3 ...
 *
 * Each picture is put back, and the next start must make of it what it would have made of the whole.
 */
#include "tests/unit/test_pool.h"

#include <sys/ptrace.h>

#include "tests/suite.h"
#include "tests/unit/test_version3.h"

#define POOL (64 * MIB)
#define SECTION (4 * MIB)
#define SECTIONS 16u
#define KEPT (SECTIONS + 4)
#define SESSIONS 5u /* records; ids from 1 */
#define LIMIT 4711u
#define PICTURES_MAX 400u

static void look_new(struct pool *p)
{
	CHILD_CHECK(!p->recovered && p->epoch == 1);
	CHILD_CHECK(p->superblock->version == METADATA_VERSION);
	CHILD_CHECK(p->superblock->made_version == METADATA_VERSION && p->superblock->created > 0);
	CHILD_CHECK(p->superblock->lifeline == 1 && p->lifeline_view >= 0);
	CHILD_CHECK(p->nr_sessions == SESSIONS);
	for (uint32_t id = 1; id < SESSIONS; id++) {
		struct session_record *r = &p->session[id];

		r->uid = 1000 + id;
		r->opened = 77;
		memset(r->token, (int)id, sizeof(r->token));
		snprintf(r->name, sizeof(r->name), "session %u", id);
		r->word = id < 4 ? SESSION_RECORD_LIVE : 0;
	}
	memset(p->window + 5 * SECTION, 'z', 4096);
	owner_store(&p->control.word[9], 99);
	/* what version 4 alone has, to be found or not */
	p->session[2].restarts = 5;
	p->session[2].away = 6;
	p->session[2].calls = p->session[2].frames_had = 7;
}

static void look_same(struct pool *p)
{
	CHILD_CHECK(p->recovered && p->epoch >= 2);
	CHILD_CHECK(p->superblock->epoch == p->epoch && p->control.status->epoch == p->epoch);
	CHILD_CHECK(p->superblock->version == METADATA_VERSION);
	CHILD_CHECK(p->superblock->size == sizeof(struct superblock));
	CHILD_CHECK(p->superblock->checksum == pool_superblock_checksum(p->superblock));
	CHILD_CHECK(p->ledger.head->version == METADATA_VERSION);
	CHILD_CHECK(p->lifeline_fd >= 0 && p->lifeline_view >= 0 && p->superblock->lifeline == 1);
	CHILD_CHECK(p->window[5 * SECTION + 4095] == 'z');
	CHILD_CHECK(owner_load(&p->control.word[9]) == 99);
	for (uint32_t id = 1; id < SESSIONS; id++) {
		struct session_record *r = &p->session[id];
		char name[64] = "";

		snprintf(name, sizeof(name), "session %u", id);
		CHILD_CHECK(r->uid == 1000 + id && r->opened == 77 && r->token[15] == id);
		CHILD_CHECK(memcmp(r->name, name, sizeof(name)) == 0);
		CHILD_CHECK(r->word == (id < 4 ? SESSION_RECORD_LIVE : 0));
	}
}

static void look_converted(struct pool *p)
{
	look_same(p);
	CHILD_CHECK(p->superblock->made_version == 3 && p->superblock->created == 0);
	for (uint32_t id = 0; id < SESSIONS; id++) {
		struct session_record *r = &p->session[id];

		CHILD_CHECK(r->restarts == 0 && r->away == 0 && r->calls == 0 && r->refused == 0);
		CHILD_CHECK(r->frames_had == 0 && r->objects_had == 0 && r->objects_back == 0);
	}
}

static void look_again(struct pool *p)
{
	look_same(p);
	CHILD_CHECK(p->superblock->made_version == METADATA_VERSION && p->superblock->created > 0);
	CHILD_CHECK(p->session[2].restarts == 5 && p->session[2].calls == 7);
}

/* ---- what the manager keeps, mapped ---- */

static struct {
	uint8_t *metadata, *ledger; /* m15, and a page */
	struct superblock *superblock;
	struct session_record *session;
} kept;

static void *kept_map(const char *name, size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
	               manager.store.kept[manager_find(&manager, name)].fd, 0);

	ck_assert_ptr_ne(p, MAP_FAILED);
	return p;
}

static void pool_make(void)
{
	options.sessions_max = SESSIONS - 1;
	START_OK(look_new);
	ck_assert_uint_eq(manager.store.nr, KEPT);
	kept.metadata = kept_map("m15", SECTION);
	kept.ledger = kept_map("ledger0", 4096);
	kept.superblock = (struct superblock *)(kept.metadata + SECTION - 4096);
	kept.session = (struct session_record *)(kept.metadata + kept.superblock->session_address -
	                                         15 * SECTION);
}

static void pool_make_3(void)
{
	pool_make();
	superblock_3_write(kept.superblock);
	for (uint32_t id = 0; id < SESSIONS; id++)
		session_record_3_write(&kept.session[id], LIMIT);
	ledger_head_3_write(kept.ledger);
	manager_lose(&manager, "life0"); /* it had none */
}

static void setup(void)
{
	manager_setup();
}

static void teardown(void)
{
	if (kept.metadata)
		munmap(kept.metadata, SECTION);
	if (kept.ledger)
		munmap(kept.ledger, 4096);
	memset(&kept, 0, sizeof(kept));
	manager_teardown();
}

/* ---- */

START_TEST(this_version_is_as_it_was)
{
	pool_make();
	START_OK(look_again);
	START_OK(look_again);
	ck_assert_uint_eq(manager.store.nr, KEPT);
	ck_assert_ptr_null(strstr(manager.log, "were of version"));
}
END_TEST

START_TEST(the_version_before_is_taken_over)
{
	pool_make_3();
	START_OK(look_converted);
	ck_assert_ptr_nonnull(strstr(manager.log, "were of version 3 and are of version 4 now"));
	/* it was given what it had not: a lifeline, in the store */
	ck_assert_uint_eq(manager.store.nr, KEPT);
	(void)manager_find(&manager, "life0");
	START_OK(look_converted);
	ck_assert_ptr_null(strstr(manager.log, "were of version"));
	ck_assert_uint_eq(manager.store.nr, KEPT);
}
END_TEST

START_TEST(a_start_that_dies_before_it_converts_leaves_the_version_before)
{
	struct superblock_3 before, after;

	pool_make_3();
	memcpy(&before, kept.superblock, sizeof(before));
	manager.kill_at = KEPT; /* with the first descriptor that it pushes */
	ck_assert_int_eq(start(NULL), -SIGKILL);
	manager.kill_at = 0;
	memcpy(&after, kept.superblock, sizeof(after));
	ck_assert_int_eq(memcmp(&before, &after, sizeof(before)), 0);
	START_OK(look_converted);
	ck_assert_uint_eq(manager.store.nr, KEPT);
}
END_TEST

/* ---- killed at every store ---- */

struct picture {
	uint8_t superblock[4096], session[SESSIONS * sizeof(struct session_record)], ledger[4096];
};

static void picture_take(struct picture *p)
{
	memcpy(p->superblock, kept.superblock, sizeof(p->superblock));
	memcpy(p->session, kept.session, sizeof(p->session));
	memcpy(p->ledger, kept.ledger, sizeof(p->ledger));
}

static void picture_put(const struct picture *p)
{
	memcpy(kept.superblock, p->superblock, sizeof(p->superblock));
	memcpy(kept.session, p->session, sizeof(p->session));
	memcpy(kept.ledger, p->ledger, sizeof(p->ledger));
}

static bool picture_is_now(const struct picture *p)
{
	return memcmp(kept.superblock, p->superblock, sizeof(p->superblock)) == 0 &&
	       memcmp(kept.session, p->session, sizeof(p->session)) == 0 &&
	       memcmp(kept.ledger, p->ledger, sizeof(p->ledger)) == 0;
}

/* Not committed: all that a program of version 3 looks at is as it was. */
static bool picture_is_3(const struct picture *p, const struct picture *first)
{
	const size_t size = sizeof(struct session_record_3);

	if (memcmp(p->superblock, first->superblock, sizeof(struct superblock_3)) != 0 ||
	    memcmp(p->ledger, first->ledger, sizeof(p->ledger)) != 0)
		return false;
	for (uint32_t id = 0; id < SESSIONS; id++) {
		const uint8_t *a = p->session + id * size, *b = first->session + id * size;
		const size_t reserved = offsetof(struct session_record_3, reserved);
		const size_t behind = offsetof(struct session_record_3, start_time);

		if (memcmp(a, b, reserved) != 0 ||
		    memcmp(a + behind, b + behind, offsetof(struct session_record_3, pad) - behind) != 0)
			return false;
	}
	return true;
}

/* The conversion itself, in the mappings of the test. */
static _Noreturn void victim_run(void)
{
	struct ledger_head *head = (struct ledger_head *)kept.ledger;
	struct pool p = { .superblock = kept.superblock, .session = kept.session,
		          .nr_sessions = SESSIONS, .ledger = { .head = head } };

	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
		_exit(97);
	raise(SIGSTOP);
	pool_convert(&p, true);
	raise(SIGSTOP);
	_exit(0);
}

/* How many; the first is what there was before. */
static unsigned int pictures_take(struct picture *picture)
{
	unsigned int n = 1;
	int status;
	pid_t pid;

	picture_take(&picture[0]);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		victim_run();
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	do {
		ck_assert_int_eq(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert(WIFSTOPPED(status));
		if (!picture_is_now(&picture[n - 1])) {
			ck_assert_uint_lt(n, PICTURES_MAX);
			picture_take(&picture[n++]);
		}
	} while (WSTOPSIG(status) == SIGTRAP);
	ck_assert_int_eq(WSTOPSIG(status), SIGSTOP); /* it came to its end */
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return n;
}

START_TEST(killed_at_every_store_it_is_run_again)
{
	struct picture *picture = calloc(PICTURES_MAX, sizeof(*picture));
	unsigned int n, i, before = 0;

	ck_assert_ptr_nonnull(picture);
	pool_make_3();
	/* programs of version 3 left 0 in what they did not have; it is not believed */
	for (i = 0; i < SESSIONS; i++)
		memset(((struct session_record_3 *)&kept.session[i])->pad, 0xa5, 56);
	memset((uint8_t *)kept.superblock + sizeof(struct superblock_3), 0x5a, 32);
	n = pictures_take(picture);
	for (i = 0; i < n; i++) {
		const struct superblock *sb = (const struct superblock *)picture[i].superblock;

		if (sb->version == 3) {
			ck_assert_msg(i == before, "picture %u is of version 3 again", i);
			ck_assert_msg(picture_is_3(&picture[i], &picture[0]),
			              "picture %u: version 3 is spoiled", i);
			before++;
		}
		picture_put(&picture[i]);
		START_OK(look_converted);
		ck_assert_uint_eq(manager.store.nr, KEPT);
	}
	/* stores of each record, of the superblock; the commit; the ledger's */
	ck_assert_uint_ge(before, SESSIONS + 3);
	ck_assert_uint_eq(n, before + 2);
	free(picture);
}
END_TEST

/* ---- refused ---- */

static void refused(uint32_t version, const char *more)
{
	struct superblock good = *kept.superblock;
	char text[100];

	kept.superblock->version = version;
	snprintf(text, sizeof(text), "the metadata are of version %u; this program reads versions 3 and "
	         "4", version);
	START_REFUSED(EUCLEAN, text);
	START_REFUSED(EUCLEAN, more);
	ck_assert_ptr_nonnull(strstr(manager.log, "kmmctl sessions"));
	ck_assert_ptr_nonnull(strstr(manager.log, "kmmctl leaks"));
	ck_assert_ptr_nonnull(strstr(manager.log, "stop the service and start it"));
	ck_assert_uint_eq(manager.store.nr, KEPT);
	ck_assert_uint_eq(kept.superblock->version, version); /* nothing was changed */
	*kept.superblock = good;
}

START_TEST(other_versions_are_refused_with_what_to_do)
{
	pool_make();
	refused(1, "one between the two");
	refused(2, "one between the two");
	refused(5, "or a later one");
	refused(77, "or a later one");
	START_OK(look_again);
}
END_TEST

START_TEST(what_is_wrong_in_the_version_before_is_refused_and_left_alone)
{
	struct superblock_3 *sb, good;

	pool_make_3();
	sb = (struct superblock_3 *)kept.superblock;
	good = *sb;
#define SPOIL(field, value, sum, text)                           \
	do {                                                     \
		sb->field = (value);                             \
		if (sum)                                         \
			sb->checksum = superblock_3_checksum(sb); \
		START_REFUSED(EUCLEAN, text);                    \
		ck_assert_uint_eq(sb->version, 3);               \
		*sb = good;                                      \
	} while (0)
	SPOIL(size, sizeof(struct superblock), true, "has 184 bytes, not 152");
	SPOIL(checksum, 1, false, "checksum");
	SPOIL(frames, good.frames * 2, false, "checksum");
	SPOIL(backing, good.backing | 1 << 8, true, "names backing");
	kept.session[3].word = 9;
	START_REFUSED(EUCLEAN, "the record of session 3");
	ck_assert_uint_eq(sb->version, 3);
	ck_assert_uint_eq(manager.store.nr, KEPT - 1);
	kept.session[3].word = SESSION_RECORD_LIVE;
	START_OK(look_converted);
}
END_TEST

START_TEST(a_lifeline_that_is_none_is_refused)
{
	int ends[2];

	pool_make();
	manager_lose(&manager, "life0");
	START_REFUSED(EUCLEAN, "\"life0\" is missing");
	ck_assert_int_eq(pipe(ends), 0);
	ck_assert_int_eq(supervise_store_keep(&manager.store, "life0", ends[0]), 0);
	START_REFUSED(EUCLEAN, "\"life0\": it is not the writing end of a pipe");
	manager_lose(&manager, "life0");
	ck_assert_int_eq(supervise_store_keep(&manager.store, "life0", ends[1]), 0);
	START_OK(look_again);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_version");
	TCase *t = tcase_create("pool_version");

	tcase_set_timeout(t, 300);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, this_version_is_as_it_was);
	tcase_add_test(t, the_version_before_is_taken_over);
	tcase_add_test(t, a_start_that_dies_before_it_converts_leaves_the_version_before);
	tcase_add_test(t, killed_at_every_store_it_is_run_again);
	tcase_add_test(t, other_versions_are_refused_with_what_to_do);
	tcase_add_test(t, what_is_wrong_in_the_version_before_is_refused_and_left_alone);
	tcase_add_test(t, a_lifeline_that_is_none_is_refused);
	suite_add_tcase(s, t);
	return suite_status(s);
}
