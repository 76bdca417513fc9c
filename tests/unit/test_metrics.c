/* SPDX-License-Identifier: MIT */
/*
 * Metrics alone: buckets, counting, the two formats, labels; where and in which format they are served.
 */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "daemon/http_accept.h"
#include "daemon/http_address.h"
#include "daemon/kmmd.h"
#include "daemon/metrics.h"
#include "daemon/metrics_writer.h"
#include "daemon/reactor.h"
#include "daemon/rpc.h"
#include "tests/suite.h"

/* ---- counting ---- */

START_TEST(buckets)
{
	uint64_t us;
	unsigned int i;

	ck_assert_uint_eq(metrics_bucket(0), 0);
	ck_assert_uint_eq(metrics_bucket(1), 0);
	for (i = 0; i < METRICS_BOUNDS; i++) {
		us = UINT64_C(1) << i;
		/* what is exactly the bound belongs below it */
		ck_assert_uint_eq(metrics_bucket(us * 1000), i);
		ck_assert_uint_eq(metrics_bucket(us * 1000 + 1), i + 1);
	}
	ck_assert_uint_eq(metrics_bucket(UINT64_MAX), METRICS_BUCKETS - 1);
}
END_TEST

/* A daemon with two reactors that only count. */
struct scene {
	struct reactor reactor[2], *reactors[2];
	struct kmmd k;
};

static void scene_make(struct scene *s)
{
	int i;

	memset(s, 0, sizeof(*s));
	for (i = 0; i < 2; i++) {
		ck_assert_int_eq(metrics_reactor_new(&s->reactor[i].metrics), 0);
		s->reactors[i] = &s->reactor[i];
	}
	s->k.reactors = s->reactors;
	s->k.nr_reactors = 2;
}

static void scene_end(struct scene *s)
{
	metrics_reactor_free(s->reactor[0].metrics);
	metrics_reactor_free(s->reactor[1].metrics);
}

START_TEST(calls_are_summed)
{
	uint64_t code[METRICS_CODES], hour = UINT64_C(3600) * 1000000000, now;
	struct metrics_sum sum;
	struct scene s;

	scene_make(&s);
	now = uv_hrtime();
	/* a batch: two methods, both of them as long as it took */
	metrics_answered(s.reactor[0].metrics, 3, STATUS_OK);
	metrics_answered(s.reactor[0].metrics, 3, STATUS_OK);
	metrics_answered(s.reactor[0].metrics, 4, STATUS_RESOURCE_EXHAUSTED);
	metrics_batch(s.reactor[0].metrics, now - hour);
	metrics_batch(s.reactor[0].metrics, now - hour); /* an empty one */
	/* on another reactor, late; and from the future, as a clock read on another CPU may have it */
	metrics_ended(s.reactor[1].metrics, 3, STATUS_CANCELLED, now - hour);
	metrics_ended(s.reactor[1].metrics, 3, STATUS_OK, now + hour);
	metrics_sum_method(&s.k, 3, code, &sum);
	ck_assert_uint_eq(code[STATUS_OK], 3);
	ck_assert_uint_eq(code[STATUS_CANCELLED], 1);
	ck_assert_uint_eq(sum.count, 4);
	ck_assert_uint_eq(sum.bucket[METRICS_BUCKETS - 1], 3);
	ck_assert_uint_eq(sum.bucket[0], 1);
	ck_assert_uint_ge(sum.sum_ns, 3 * hour);
	metrics_sum_method(&s.k, 4, code, &sum);
	ck_assert_uint_eq(code[STATUS_OK], 0);
	ck_assert_uint_eq(code[STATUS_RESOURCE_EXHAUSTED], 1);
	ck_assert_uint_eq(sum.count, 1);
	/* what is no method of ours */
	metrics_answered(s.reactor[0].metrics, METRICS_METHODS, STATUS_UNIMPLEMENTED);
	metrics_answered(s.reactor[0].metrics, UINT32_MAX, STATUS_UNIMPLEMENTED);
	metrics_batch(s.reactor[0].metrics, now);
	metrics_sum_method(&s.k, 0, code, &sum);
	ck_assert_uint_eq(code[STATUS_UNIMPLEMENTED], 2);
	ck_assert_uint_eq(sum.count, 2);
	/* nobody counts on the main loop */
	metrics_answered(NULL, 3, STATUS_OK);
	metrics_batch(NULL, now);
	metrics_ended(NULL, 3, STATUS_OK, now);
	scene_end(&s);
}
END_TEST

START_TEST(every_method_has_a_place)
{
	const struct rpc_method *m;

	for (m = rpc_method_next(NULL); m; m = rpc_method_next(m))
		ck_assert_msg(m->number > 0 && m->number < METRICS_METHODS, "%s is %u", m->name,
		              m->number);
}
END_TEST

START_TEST(lag)
{
	uint64_t s = UINT64_C(1000000000), at = 5 * s;
	struct metrics_reactor *m;
	struct metrics_sum sum = { .count = 0 };

	ck_assert_int_eq(metrics_reactor_new(&m), 0);
	metrics_tick(m, at); /* the first: nothing was due */
	metrics_tick(m, at + s);
	metrics_tick(m, at + 2 * s - 1); /* early */
	metrics_tick(m, at + 6 * s - 1); /* three seconds late */
	metrics_sum_histogram(&m->lag, &sum);
	ck_assert_uint_eq(sum.count, 3);
	ck_assert_uint_eq(sum.bucket[0], 2);
	ck_assert_uint_eq(sum.bucket[metrics_bucket(3 * s)], 1);
	ck_assert_uint_eq(sum.sum_ns, 3 * s);
	metrics_reactor_free(m);
}
END_TEST

/* ---- text ---- */

static void write_some(struct metrics_writer *w)
{
	struct metrics_sum h = { .sum_ns = 1500000000, .count = 4 };

	metrics_family(w, METRICS_INFO, "a", "", "One.");
	metrics_u64(w, 1, "version=\"%s\"", "1.2");
	metrics_family(w, METRICS_COUNTER, "b_bytes", "bytes", "Two.");
	metrics_u64(w, UINT64_MAX, METRICS_NO_LABELS);
	metrics_family(w, METRICS_GAUGE, "c_seconds", "seconds", "Three.");
	metrics_ns(w, 1000000001, "d=\"%s\"", metrics_label("a\"b").text);
	h.bucket[0] = 1;
	h.bucket[20] = 2;
	h.bucket[METRICS_BUCKETS - 1] = 1;
	metrics_family(w, METRICS_HISTOGRAM, "e_seconds", "seconds", "Four.");
	metrics_histogram(w, &h, "m=\"x\"%s", "");
	metrics_end(w);
}

static void expect(const char *text, const char *line)
{
	ck_assert_msg(strstr(text, line) != NULL, "\"%s\" is not in:\n%s", line, text);
}

START_TEST(openmetrics)
{
	struct metrics_writer w = { .format = METRICS_OPENMETRICS };

	write_some(&w);
	ck_assert(!w.failed);
	ck_assert_uint_eq(strlen(w.text), w.length);
	expect(w.text, "# TYPE a info\n# HELP a One.\na_info{version=\"1.2\"} 1\n");
	expect(w.text, "# TYPE b_bytes counter\n# UNIT b_bytes bytes\n# HELP b_bytes Two.\n"
	               "b_bytes_total 18446744073709551615\n");
	expect(w.text, "c_seconds{d=\"a\\\"b\"} 1.000000001\n");
	expect(w.text, "e_seconds_bucket{m=\"x\",le=\"0.000001\"} 1\n"
	               "e_seconds_bucket{m=\"x\",le=\"0.000002\"} 1\n");
	expect(w.text, "e_seconds_bucket{m=\"x\",le=\"0.524288\"} 1\n"
	               "e_seconds_bucket{m=\"x\",le=\"1.048576\"} 3\n");
	expect(w.text, "e_seconds_bucket{m=\"x\",le=\"16.777216\"} 3\n"
	               "e_seconds_bucket{m=\"x\",le=\"+Inf\"} 4\n"
	               "e_seconds_count{m=\"x\"} 4\ne_seconds_sum{m=\"x\"} 1.500000000\n");
	ck_assert_str_eq(w.text + w.length - 6, "# EOF\n");
	free(w.text);
}
END_TEST

START_TEST(prometheus)
{
	struct metrics_writer w = { .format = METRICS_PROMETHEUS };

	write_some(&w);
	expect(w.text, "# HELP a_info One.\n# TYPE a_info gauge\na_info{version=\"1.2\"} 1\n");
	expect(w.text, "# HELP b_bytes_total Two.\n# TYPE b_bytes_total counter\nb_bytes_total 184");
	ck_assert_ptr_null(strstr(w.text, "# UNIT"));
	ck_assert_ptr_null(strstr(w.text, "# EOF"));
	free(w.text);
}
END_TEST

START_TEST(too_long_is_none)
{
	struct metrics_writer w = { .format = METRICS_OPENMETRICS };
	uint32_t i;

	metrics_family(&w, METRICS_GAUGE, "a", "", "One.");
	for (i = 0; i < METRICS_TEXT_MAX / 16; i++)
		metrics_u64(&w, i, "number=\"%u\"", i);
	ck_assert(w.failed);
	ck_assert_uint_le(w.length, METRICS_TEXT_MAX);
	free(w.text);
}
END_TEST

START_TEST(labels)
{
	static const struct {
		const char *from, *to;
	} label[] = {
		{ "kmalloc-64", "kmalloc-64" },
		{ "", "" },
		{ "a\\b", "a\\\\x5cb" },
		{ "\"", "\\\"" },
		{ "a\nb", "a\\\\x0ab" },
		{ "gr\xc3\xb6\xc3\x9f" "e", "gr\xc3\xb6\xc3\x9f" "e" },
		{ "\xe2\x82\xac", "\xe2\x82\xac" },
		{ "\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80" },
		{ "\xff", "\\\\xff" },
		{ "\xc3", "\\\\xc3" },             /* cut off */
		{ "\xc0\x80", "\\\\xc0\\\\x80" },  /* too long a form */
		{ "\xed\xa0\x80", "\\\\xed\\\\xa0\\\\x80" }, /* half of a pair */
		{ "\xc2\x85", "\\\\xc2\\\\x85" },  /* a control character */
		{ "\xf4\x90\x80\x80", "\\\\xf4\\\\x90\\\\x80\\\\x80" }, /* behind the last one */
	};
	char longest[65];
	size_t i;

	for (i = 0; i < sizeof(label) / sizeof(label[0]); i++)
		ck_assert_str_eq(metrics_label(label[i].from).text, label[i].to);
	memset(longest, 0xff, 64);
	longest[64] = '\0';
	ck_assert_uint_ge(strlen(metrics_label(longest).text), 5 * 63);
}
END_TEST

/* ---- where, and which ---- */

START_TEST(addresses)
{
	static const char *const good[] = { "127.0.0.1:9464", "127.1.2.3:1", "[::1]:65535",
		                            "/run/kmmd/metrics.sock" };
	static const char *const bad[] = {
		"0.0.0.0:9464", "[::]:9464", "10.0.0.1:9464", "[fe80::1]:9464", "[::ffff:127.0.0.1]:1",
		"localhost:9464", "9464", ":9464", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0",
		"127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:94 ", "127.0.0.1:99999999999999999999",
		"::1:9464", "[::1]", "[::1:9464", "[]:1", "[:1", "run/kmmd", "127.0.0.1 :1",
	};
	struct http_address a;
	char path[120];
	const char *why;
	size_t i;

	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		ck_assert_msg(http_address_parse(&a, good[i], &why) == 0, "%s: %s", good[i], why);
	ck_assert(http_address_is_path(&a));
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		why = NULL;
		ck_assert_msg(http_address_parse(&a, bad[i], &why) == -EINVAL, "%s", bad[i]);
		ck_assert_ptr_nonnull(why);
	}
	memset(path, 'a', sizeof(path));
	path[0] = '/';
	path[107] = '\0';
	ck_assert_int_eq(http_address_parse(&a, path, &why), 0);
	path[107] = 'a';
	path[108] = '\0';
	ck_assert_int_eq(http_address_parse(&a, path, &why), -EINVAL);
	ck_assert_int_eq(http_address_parse(&a, "[::1]:9464", &why), 0);
	ck_assert_int_eq(a.at.in6.sin6_family, AF_INET6);
	ck_assert_uint_eq(ntohs(a.at.in6.sin6_port), 9464);
}
END_TEST

START_TEST(accept_header)
{
	static const char *const open[] = {
		"application/openmetrics-text",
		"application/openmetrics-text; version=1.0.0; charset=utf-8",
		"Application/OpenMetrics-Text;Version=\"1.0.0\"",
		/* Prometheus */
		"application/openmetrics-text;version=1.0.0,application/openmetrics-text;"
		"version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
		"text/plain;q=0.5, application/openmetrics-text;q=0.6",
		"*/*;q=0.1 , application/openmetrics-text ; q=0.2",
		"application/openmetrics-text;version", /* a parameter without a value is none */
	};
	static const char *const plain[] = {
		"", "*/*", "text/plain", "text/html,application/xhtml+xml,*/*;q=0.8",
		"application/openmetrics-text;version=2.0.0", "application/openmetrics-text;q=0",
		"application/openmetrics-text;q=0.3,text/plain",
		"application/openmetrics-text;q=0.4,text/plain;version=0.0.4;q=0.5",
		"application/openmetrics-texts", "application/openmetrics", ",,;;,", ";q=1",
		"application/openmetrics-text;q=0.000",
	};
	size_t i;

	ck_assert(!http_accept_openmetrics(NULL));
	for (i = 0; i < sizeof(open) / sizeof(open[0]); i++)
		ck_assert_msg(http_accept_openmetrics(open[i]), "%s", open[i]);
	for (i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		ck_assert_msg(!http_accept_openmetrics(plain[i]), "%s", plain[i]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("metrics");
	TCase *t = tcase_create("metrics");

	tcase_add_test(t, buckets);
	tcase_add_test(t, calls_are_summed);
	tcase_add_test(t, every_method_has_a_place);
	tcase_add_test(t, lag);
	tcase_add_test(t, openmetrics);
	tcase_add_test(t, prometheus);
	tcase_add_test(t, too_long_is_none);
	tcase_add_test(t, labels);
	tcase_add_test(t, addresses);
	tcase_add_test(t, accept_header);
	suite_add_tcase(s, t);
	return suite_status(s);
}
