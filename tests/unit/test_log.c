/* SPDX-License-Identifier: MIT */
/*
 * The log: what leaves as a line of text and what as an entry of the journal, what clients cannot do to
 * either, and how many lines they can cause. The journal is played: sd_journal_sendv() here notes the
 * fields. Standard error is a file, which JOURNAL_STREAM names or does not.
 */
#include "daemon/log.h"

#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "daemon/log_rate.h"
#include "tests/suite.h"

int sd_journal_sendv(const struct iovec *iov, int n);

/* ---- the journal ---- */

#define FIELDS_MAX 16

static char field[FIELDS_MAX][2100];
static int fields, entries, journal_result;

int sd_journal_sendv(const struct iovec *iov, int n)
{
	ck_assert_int_le(n, FIELDS_MAX);
	entries++;
	fields = n;
	for (int i = 0; i < n; i++) {
		ck_assert_uint_lt(iov[i].iov_len, sizeof(field[i]));
		memcpy(field[i], iov[i].iov_base, iov[i].iov_len);
		field[i][iov[i].iov_len] = '\0';
	}
	return journal_result;
}

static bool has_field(const char *text)
{
	for (int i = 0; i < fields; i++)
		if (strcmp(field[i], text) == 0)
			return true;
	return false;
}

/* ---- standard error ---- */

static FILE *said;
static int stderr_before;

static void stderr_begin(bool journal)
{
	char text[64];
	struct stat st;

	fflush(stderr);
	said = tmpfile();
	ck_assert_ptr_nonnull(said);
	stderr_before = dup(STDERR_FILENO);
	dup2(fileno(said), STDERR_FILENO);
	fstat(STDERR_FILENO, &st);
	snprintf(text, sizeof(text), "%llu:%llu", (unsigned long long)st.st_dev,
	         (unsigned long long)st.st_ino + !journal);
	setenv("JOURNAL_STREAM", text, 1);
	journal_result = fields = entries = 0;
	log_init(LOG_LEVEL_INFO);
}

static void stderr_end(void)
{
	dup2(stderr_before, STDERR_FILENO);
	close(stderr_before);
	fclose(said);
	unsetenv("JOURNAL_STREAM");
	log_init(LOG_LEVEL_INFO);
	log_set_limits(0, 0);
}

/* All that was written. */
static const char *written(void)
{
	static char text[8192];
	ssize_t n = pread(fileno(said), text, sizeof(text) - 1, 0);

	ck_assert_int_ge(n, 0);
	text[n] = '\0';
	return text;
}

static void text_begin(void)
{
	stderr_begin(false);
}

static void journal_begin(void)
{
	stderr_begin(true);
}

/* ---- entries ---- */

static const struct log_about somebody = {
	.event = LOG_REFUSAL,
	.user = true,
	.uid = 1000,
	.pid = 12,
	.session = 3,
	.name = "worker",
	.request = "kmm.v1.Allocator/AllocPages",
};

START_TEST(an_event_has_fields)
{
	log_event(LOG_LEVEL_WARNING, &somebody, "was refused: %s", "no");
	ck_assert_int_eq(entries, 1);
	ck_assert_int_eq(fields, 9);
	ck_assert(has_field("MESSAGE=session 3 (worker, process 12, user 1000): was refused: no"));
	ck_assert(has_field("PRIORITY=4"));
	ck_assert(has_field("SYSLOG_IDENTIFIER=kmmd"));
	ck_assert(has_field("MESSAGE_ID=193d2701218e457d89b9dc95b2244111"));
	ck_assert(has_field("KMM_EVENT=refusal"));
	ck_assert(has_field("KMM_UID=1000"));
	ck_assert(has_field("KMM_PID=12"));
	ck_assert(has_field("KMM_SESSION=3"));
	ck_assert(has_field("KMM_REQUEST=kmm.v1.Allocator/AllocPages"));
	ck_assert_str_eq(written(), "");
}
END_TEST

START_TEST(what_is_not_known_is_no_field)
{
	log_event(LOG_LEVEL_NOTICE, &(struct log_about){ .event = LOG_RELOAD }, "read again");
	ck_assert_int_eq(fields, 5);
	ck_assert(has_field("MESSAGE=read again"));
	ck_assert(has_field("PRIORITY=5"));
	ck_assert(has_field("KMM_EVENT=reload"));
	log_event(LOG_LEVEL_INFO,
	          &(struct log_about){ .event = LOG_CONNECTION, .user = true, .uid = 0, .pid = 7 },
	          "the connection is refused");
	ck_assert_int_eq(fields, 7);
	ck_assert(has_field("MESSAGE=process 7, user 0: the connection is refused"));
	ck_assert(has_field("KMM_UID=0"));
	/* of another pid namespace */
	log_event(LOG_LEVEL_INFO,
	          &(struct log_about){ .event = LOG_CONNECTION, .user = true, .uid = 5 }, "no");
	ck_assert(has_field("MESSAGE=user 5: no"));
	ck_assert_int_eq(fields, 6);
}
END_TEST

START_TEST(a_plain_line_is_an_entry)
{
	errno = EBADF;
	log_error("it %s", "failed");
	ck_assert_int_eq(errno, EBADF);
	ck_assert_int_eq(fields, 3);
	ck_assert(has_field("MESSAGE=it failed"));
	ck_assert(has_field("PRIORITY=3"));
	ck_assert(has_field("SYSLOG_IDENTIFIER=kmmd"));
}
END_TEST

START_TEST(a_journal_that_refuses)
{
	journal_result = -ENOENT;
	log_event(LOG_LEVEL_WARNING, &somebody, "no");
	ck_assert_str_eq(written(), "<4>session 3 (worker, process 12, user 1000): no\n");
}
END_TEST

START_TEST(each_kind_has_its_id)
{
	for (int kind = LOG_PLAIN + 1; kind < NR_LOG_KINDS; kind++) {
		const struct log_kind_about *about = log_kind_about((enum log_kind)kind);
		char text[64];

		log_event(LOG_LEVEL_ERROR, &(struct log_about){ .event = (enum log_kind)kind },
		          "it happened");
		snprintf(text, sizeof(text), "KMM_EVENT=%s", about->name);
		ck_assert(has_field(text));
		snprintf(text, sizeof(text), "MESSAGE_ID=%s", about->id);
		ck_assert(has_field(text));
	}
}
END_TEST

/* ---- lines ---- */

START_TEST(a_line_has_no_fields)
{
	const char *at;
	int year, n = 0;

	log_event(LOG_LEVEL_WARNING, &somebody, "was refused");
	ck_assert_int_eq(entries, 0);
	at = strstr(written(), " kmmd warning: ");
	ck_assert_ptr_nonnull(at);
	ck_assert_str_eq(at, " kmmd warning: session 3 (worker, process 12, user 1000): was refused\n");
	ck_assert_int_eq(sscanf(written(), "%4d-%*2d-%*2d %*2d:%*2d:%*2d.%*3d kmmd%n", &year, &n), 1);
	ck_assert_int_gt(n, 0);
}
END_TEST

START_TEST(levels)
{
	log_info("one");
	log_debug("two");
	log_event(LOG_LEVEL_DEBUG, &somebody, "three");
	ck_assert_ptr_nonnull(strstr(written(), "info: one\n"));
	ck_assert_ptr_null(strstr(written(), "two"));
	ck_assert_ptr_null(strstr(written(), "three"));
	ck_assert(!log_wanted(LOG_LEVEL_DEBUG));
	log_init(LOG_LEVEL_DEBUG);
	log_debug("four");
	ck_assert_ptr_nonnull(strstr(written(), "debug: four\n"));
	log_init(LOG_LEVEL_ERROR);
	log_warning("five");
	ck_assert_ptr_null(strstr(written(), "five"));
}
END_TEST

START_TEST(a_long_line_is_cut)
{
	char text[4000];
	const char *line;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_error("%s", text);
	line = written();
	ck_assert_uint_le(strlen(line), 2048);
	ck_assert_uint_ge(strlen(line), 2000);
	ck_assert_ptr_eq(strchr(line, '\n'), line + strlen(line) - 1);
}
END_TEST

START_TEST(a_name_begins_no_line)
{
	struct log_about about = somebody;

	about.name = "a\n2026-01-01 00:00:00.000 kmmd error: b\033[31m";
	log_event(LOG_LEVEL_INFO, &about, "%s", "c\r\nd");
	ck_assert_ptr_eq(strchr(written(), '\n'), written() + strlen(written()) - 1);
	ck_assert_ptr_null(strchr(written(), '\r'));
	ck_assert_ptr_null(strchr(written(), '\033'));
	ck_assert_ptr_nonnull(strstr(written(), "b?[31m, process 12"));
	ck_assert_ptr_nonnull(strstr(written(), "): c? d\n"));
}
END_TEST

static const struct {
	const char *from, *to;
} texts[] = {
	{ "plain", "plain" },
	{ "", "" },
	{ "tab\there", "tab here" },
	{ "\x7f\x01", "??" },
	{ "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f" },
	{ "\xe2\x82\xac \xf0\x9f\x98\x80", "\xe2\x82\xac \xf0\x9f\x98\x80" },
	{ "\xc2\x85", "??" },                     /* a control character of two bytes */
	{ "\xff\xfe", "??" },                     /* no UTF-8 */
	{ "a\xc3", "a?" },                        /* cut */
	{ "\xe2\x82", "??" },                     /* cut */
	{ "\xe2\x82z", "??z" },                   /* cut by another */
	{ "\xc0\xaf", "??" },                     /* overlong */
	{ "\xe0\x80\xaf", "???" },                /* overlong */
	{ "\xf0\x80\x80\xaf", "????" },           /* overlong */
	{ "\xed\xa0\x80", "???" },                /* a surrogate */
	{ "\xf4\x90\x80\x80", "????" },           /* beyond Unicode */
	{ "a\xe2\x80\xae" "b", "a???b" },         /* right to left */
	{ "a\xe2\x81\xa6" "b", "a???b" },         /* isolate */
	{ "a\xe2\x80\xa8" "b", "a???b" },         /* line separator */
	{ "\x80", "?" },
};

START_TEST(sanitising)
{
	char text[64];

	snprintf(text, sizeof(text), "%s", texts[_i].from);
	log_sanitise(text, strlen(text));
	ck_assert_str_eq(text, texts[_i].to);
}
END_TEST

/* ---- rate limits ---- */

#define MINUTE LOG_RATE_WINDOW_NS

/* A clock that is ahead of all that tests did before: entries live on without forks. */
static uint64_t later(void)
{
	static uint64_t hours;
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return ((uint64_t)t.tv_sec + ++hours * 3600) * UINT64_C(1000000000);
}

static uint32_t allowed(enum log_kind kind, uid_t uid, uint64_t now, uint32_t tries)
{
	uint32_t n = 0, left;

	while (tries--)
		n += log_rate_allow(kind, uid, now, &left);
	return n;
}

START_TEST(a_user_is_limited)
{
	uint64_t now = later();
	uint32_t left;

	log_set_limits(10, 20);
	ck_assert_uint_eq(allowed(LOG_REFUSAL, 1, now, 1000), 10);
	/* neither others, nor what else happens to the user */
	ck_assert_uint_eq(allowed(LOG_REFUSAL, 2, now, 1000), 10);
	ck_assert_uint_eq(allowed(LOG_QUOTA, 1, now, 1000), 10);
	ck_assert_uint_eq(allowed(LOG_SWEEP, 1, now, 1000), 20);
	ck_assert_uint_eq(allowed(LOG_DAMAGE, 1, now, 1000), 1000);
	/* a minute from the first line, not a sliding one */
	ck_assert_uint_eq(allowed(LOG_REFUSAL, 1, now + MINUTE - 1, 5), 0);
	ck_assert(log_rate_allow(LOG_REFUSAL, 1, now + MINUTE, &left));
	ck_assert_uint_eq(left, 995);
	ck_assert(log_rate_allow(LOG_REFUSAL, 1, now + MINUTE, &left));
	ck_assert_uint_eq(left, 0);
	ck_assert_uint_eq(allowed(LOG_REFUSAL, 1, now + MINUTE, 1000), 8);
	/* a clock that another thread read before */
	ck_assert_uint_eq(allowed(LOG_REFUSAL, 1, now + MINUTE - 5, 1000), 0);
}
END_TEST

START_TEST(what_was_left_out_is_told)
{
	uint64_t now = later();
	struct log_rate_left left;
	uint32_t n;

	while (log_rate_take_left(now, &left))
		;
	log_set_limits(3, 3);
	allowed(LOG_QUOTA, 7, now, 100);
	allowed(LOG_QUOTA, 8, now, 3);
	ck_assert(!log_rate_take_left(now + MINUTE - 1, &left));
	ck_assert(log_rate_take_left(now + MINUTE, &left));
	ck_assert_int_eq(left.kind, LOG_QUOTA);
	ck_assert(left.user);
	ck_assert_uint_eq(left.uid, 7);
	ck_assert_uint_eq(left.lines, 97);
	/* once, and not again by a line */
	ck_assert(!log_rate_take_left(now + MINUTE, &left));
	ck_assert(log_rate_allow(LOG_QUOTA, 7, now + MINUTE, &n));
	ck_assert_uint_eq(n, 0);
}
END_TEST

START_TEST(no_limit)
{
	log_set_limits(0, 5);
	ck_assert_uint_eq(allowed(LOG_REFUSAL, 1, later(), 5000), 5000);
	ck_assert_uint_eq(allowed(LOG_DEATH, 1, later(), 5000), 5);
}
END_TEST

/* More users at once than there are entries: the log stays bounded, and all is told. */
START_TEST(many_users)
{
	enum { USERS = 20000, EACH = 10, LIMIT = 2 };
	uint64_t now = later(), written_lines = 0, left_out = 0;
	struct log_rate_left left;
	bool shared = false;

	while (log_rate_take_left(now, &left))
		;
	log_set_limits(LIMIT, LIMIT);
	for (uid_t uid = 100000; uid < 100000 + USERS; uid++)
		written_lines += allowed(LOG_REFUSAL, uid, now, EACH);
	ck_assert_uint_le(written_lines, (256 * 8 + 1) * LIMIT);
	ck_assert_uint_ge(written_lines, 256 * 4 * LIMIT);
	/* who was there before still has what is left of his own */
	while (log_rate_take_left(now + MINUTE, &left)) {
		left_out += left.lines;
		shared |= !left.user;
	}
	ck_assert(shared);
	ck_assert_uint_eq(written_lines + left_out, (uint64_t)USERS * EACH);
	/* and the table is empty again */
	ck_assert_uint_eq(allowed(LOG_REFUSAL, 100000 + USERS, now + MINUTE, 10), LIMIT);
}
END_TEST

START_TEST(a_line_tells_what_was_left_out)
{
	struct log_about about = { .event = LOG_FINDING, .user = true, .uid = 4242 };

	log_set_limits(2, 2);
	for (int i = 0; i < 5; i++)
		log_event(LOG_LEVEL_WARNING, &about, "line %d", i);
	ck_assert_ptr_nonnull(strstr(written(), "user 4242: line 1\n"));
	ck_assert_ptr_null(strstr(written(), "line 2"));
	/* what is not wanted at that level counts for nothing */
	about.uid = 4243;
	for (int i = 0; i < 5; i++)
		log_event(LOG_LEVEL_DEBUG, &about, "line %d", i);
	log_event(LOG_LEVEL_INFO, &about, "the first");
	ck_assert_ptr_nonnull(strstr(written(), "user 4243: the first\n"));
	log_tick(); /* their minute is not over */
	ck_assert_ptr_null(strstr(written(), "left out"));
}
END_TEST

#define THREADS 4
#define LINES 500

static void *flood(void *arg)
{
	struct log_about about = { .event = LOG_REFUSAL, .user = true, .uid = 5555 };

	(void)arg;
	for (int i = 0; i < LINES; i++)
		log_event(LOG_LEVEL_INFO, &about, "again");
	return NULL;
}

START_TEST(threads)
{
	pthread_t t[THREADS];
	unsigned int n = 0;

	log_set_limits(100, 100);
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, flood, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	for (const char *at = written(); (at = strstr(at, "user 5555: again\n")); at++)
		n++;
	ck_assert_uint_eq(n, 100);
}
END_TEST

static Suite *log_suite(void)
{
	Suite *s = suite_create("log");
	TCase *t = tcase_create("journal");

	tcase_add_checked_fixture(t, journal_begin, stderr_end);
	tcase_add_test(t, an_event_has_fields);
	tcase_add_test(t, what_is_not_known_is_no_field);
	tcase_add_test(t, a_plain_line_is_an_entry);
	tcase_add_test(t, a_journal_that_refuses);
	tcase_add_test(t, each_kind_has_its_id);
	suite_add_tcase(s, t);
	t = tcase_create("text");
	tcase_add_checked_fixture(t, text_begin, stderr_end);
	tcase_add_test(t, a_line_has_no_fields);
	tcase_add_test(t, levels);
	tcase_add_test(t, a_long_line_is_cut);
	tcase_add_test(t, a_name_begins_no_line);
	tcase_add_test(t, a_line_tells_what_was_left_out);
	tcase_add_test(t, threads);
	suite_add_tcase(s, t);
	t = tcase_create("rates");
	tcase_add_loop_test(t, sanitising, 0, sizeof(texts) / sizeof(texts[0]));
	tcase_add_test(t, a_user_is_limited);
	tcase_add_test(t, what_was_left_out_is_told);
	tcase_add_test(t, no_limit);
	tcase_add_test(t, many_users);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return suite_status(log_suite());
}
