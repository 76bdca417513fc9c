/* SPDX-License-Identifier: MIT */
/*
 * Settings: finding one, and reading, comparing, copying and exchanging values of each type.
 *
 * Reading never guesses: a number with a letter behind it, a size that overflows, an empty word are
 * refused, and the option stays what it was. Bounds that depend on other settings are checked when
 * all have been read (options.c).
 *
 * Every type is one of three in memory: a number of 1, 4 or 8 bytes, a text, a list.
 */
#include "daemon/setting.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/cpu_list.h"
#include "daemon/slab_debug.h"

/* What settings were called before; still taken. */
static const struct {
	const char *section, *key, *is_section, *is_key;
} setting_synonym[] = {
	{ "daemon", "log_level", "log", "level" },
};
#define SYNONYMS (sizeof(setting_synonym) / sizeof(setting_synonym[0]))

bool setting_of_pool(const struct setting *s)
{
	return strcmp(s->section, "pool") == 0 ||
	       (strcmp(s->section, "limits") == 0 &&
	        (strcmp(s->key, "sessions") == 0 || strcmp(s->key, "holders") == 0));
}

const struct setting *setting_find(const char *section, const char *key)
{
	for (size_t i = 0; i < SYNONYMS; i++) {
		if (strcmp(setting_synonym[i].section, section) == 0 &&
		    strcmp(setting_synonym[i].key, key) == 0) {
			section = setting_synonym[i].is_section;
			key = setting_synonym[i].is_key;
			break;
		}
	}
	for (const struct setting *s = setting_table; s->key; s++)
		if (strcmp(s->section, section) == 0 && strcmp(s->key, key) == 0)
			return s;
	return NULL;
}

const struct setting *setting_find_option(const char *option)
{
	for (const struct setting *s = setting_table; s->key; s++)
		if (s->option && strcmp(s->option, option) == 0)
			return s;
	return NULL;
}

bool setting_section_known(const char *section)
{
	for (const struct setting *s = setting_table; s->key; s++)
		if (strcmp(s->section, section) == 0)
			return true;
	return false;
}

static void *setting_at(const struct setting *s, struct options *o)
{
	return (char *)o + s->offset;
}

static const void *setting_at_const(const struct setting *s, const struct options *o)
{
	return (const char *)o + s->offset;
}

/* Digits of a base at the front of text; *end is what follows. */
static int read_digits(const char *text, int base, uint64_t *ret, const char **end)
{
	char *stop;
	uint64_t v;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	v = strtoull(text, &stop, base);
	if (errno || stop == text)
		return -EINVAL;
	*ret = v;
	*end = stop;
	return 0;
}

static int read_number(const char *text, int base, uint64_t *ret)
{
	const char *end;
	uint64_t v;

	if (read_digits(text, base, &v, &end) < 0 || *end)
		return -EINVAL;
	*ret = v;
	return 0;
}

static int read_size(const char *text, uint64_t *ret)
{
	static const char unit[] = "KMGT";
	const char *end, *u;
	uint64_t v;

	if (read_digits(text, 10, &v, &end) < 0)
		return -EINVAL;
	if (*end) {
		u = strchr(unit, toupper((unsigned char)*end));
		if (!u || end[1] ||
		    __builtin_mul_overflow(v, UINT64_C(1) << (10 * (u - unit + 1)), &v))
			return -EINVAL;
	}
	*ret = v;
	return 0;
}

static int read_time(const char *text, uint64_t *ret)
{
	const char *end;
	uint64_t v, factor;

	if (read_digits(text, 10, &v, &end) < 0)
		return -EINVAL;
	if (!*end || strcmp(end, "s") == 0)
		factor = 1000;
	else if (strcmp(end, "ms") == 0)
		factor = 1;
	else
		return -EINVAL;
	if (__builtin_mul_overflow(v, factor, &v))
		return -EINVAL;
	*ret = v;
	return 0;
}

static int read_word(const char *text, const char *const word[], size_t n, int *ret)
{
	for (size_t i = 0; i < n; i++) {
		if (word[i] && strcmp(word[i], text) == 0) {
			*ret = (int)i;
			return 0;
		}
	}
	return -EINVAL;
}

static void list_free(char **list)
{
	if (!list)
		return;
	for (char **p = list; *p; p++)
		free(*p);
	free(list);
}

static int read_list(const char *text, uint64_t max, char ***ret)
{
	static const char between[] = ", \t";
	size_t n = 0;
	char **list = calloc(max + 1, sizeof(*list));

	if (!list)
		return -ENOMEM;
	for (;;) {
		size_t length;

		text += strspn(text, between);
		length = strcspn(text, between);
		if (!length)
			break;
		if (n == max) {
			list_free(list);
			return -EINVAL;
		}
		list[n] = strndup(text, length);
		if (!list[n++]) {
			list_free(list);
			return -ENOMEM;
		}
		text += length;
	}
	*ret = list;
	return 0;
}

static const char *const boolean[] = { "no", "yes" };
static const char *const backing[] = {
	[SHM_AUTO] = "auto", [SHM_HUGETLB_2M] = "hugetlb", [SHM_THP] = "thp", [SHM_4K] = "4k"
};
static const char *const level[] = { "error", "warning", "notice", "info", "debug" };

static int apply_number(const struct setting *s, struct options *o, const char *value)
{
	uint64_t v = 0;
	int r;

	switch (s->type) {
	case SETTING_SIZE:
		r = read_size(value, &v);
		break;
	case SETTING_TIME:
		r = read_time(value, &v);
		break;
	case SETTING_MODE:
		r = read_number(value, 8, &v);
		break;
	default:
		r = read_number(value, 10, &v);
		break;
	}
	if (r < 0 || v < s->min || v > s->max)
		return -EINVAL;
	if (s->type == SETTING_SIZE || s->type == SETTING_NUMBER64)
		*(uint64_t *)setting_at(s, o) = v;
	else if (s->type == SETTING_MODE)
		*(mode_t *)setting_at(s, o) = (mode_t)v;
	else
		*(uint32_t *)setting_at(s, o) = (uint32_t)v;
	return 0;
}

static int apply_text(const struct setting *s, struct options *o, const char *value)
{
	size_t n = strlen(value);
	char **at = setting_at(s, o), *copy;

	if (n < s->min || n > s->max || (s->type == SETTING_DEBUG && !slab_debug_valid(value)) ||
	    (s->type == SETTING_CPUS && !cpu_list_valid(value)))
		return -EINVAL;
	copy = strdup(value);
	if (!copy)
		return -ENOMEM;
	free(*at);
	*at = copy;
	return 0;
}

static int apply_list(const struct setting *s, struct options *o, const char *value)
{
	char ***at = setting_at(s, o), **list;
	int r = read_list(value, s->max, &list);

	if (r < 0)
		return r;
	list_free(*at);
	*at = list;
	return 0;
}

int setting_append(const struct setting *s, struct options *o, const char *value)
{
	char ***at = setting_at(s, o), **more;
	size_t n = 0, i;
	int r;

	if (s->type != SETTING_LIST)
		return -EINVAL;
	while (*at && (*at)[n])
		n++;
	if (!n)
		return apply_list(s, o, value);
	r = read_list(value, s->max - n, &more);
	if (r < 0)
		return r;
	/* read_list() makes room for as many as there may be, and the end. */
	for (i = 0; more[i]; i++)
		(*at)[n + i] = more[i];
	free(more);
	return 0;
}

static int apply_word(const struct setting *s, struct options *o, const char *value)
{
	int v;

	switch (s->type) {
	case SETTING_BOOL:
		if (read_word(value, boolean, 2, &v) < 0)
			return -EINVAL;
		*(bool *)setting_at(s, o) = v;
		return 0;
	case SETTING_BACKING:
		if (read_word(value, backing, sizeof(backing) / sizeof(backing[0]), &v) < 0 ||
		    (s->min >> v & 1))
			return -EINVAL;
		*(enum shm_backing *)setting_at(s, o) = (enum shm_backing)v;
		return 0;
	default:
		if (read_word(value, level, 5, &v) < 0)
			return -EINVAL;
		*(enum log_level *)setting_at(s, o) = (enum log_level)v;
		return 0;
	}
}

int setting_apply(const struct setting *s, struct options *o, const char *value)
{
	switch (s->type) {
	case SETTING_TEXT:
	case SETTING_DEBUG:
	case SETTING_CPUS:
		return apply_text(s, o, value);
	case SETTING_LIST:
		return apply_list(s, o, value);
	case SETTING_BOOL:
	case SETTING_BACKING:
	case SETTING_LEVEL:
		return apply_word(s, o, value);
	default:
		return apply_number(s, o, value);
	}
}

int setting_reset(const struct setting *s, struct options *o)
{
	int r;

	if (!s->initial)
		return 0;
	r = setting_apply(s, o, s->initial);
	return r == -EINVAL ? -EIO : r; /* the table is wrong: a test sees it */
}

/* ---- by what it is in memory ---- */

enum shape {
	SHAPE_TEXT,
	SHAPE_LIST,
	SHAPE_1,
	SHAPE_4,
	SHAPE_8,
};

static enum shape setting_shape(const struct setting *s)
{
	_Static_assert(sizeof(mode_t) == 4 && sizeof(enum shm_backing) == 4 &&
	                       sizeof(enum log_level) == 4 && sizeof(bool) == 1,
	               "numbers of 1, 4 and 8 bytes");
	switch (s->type) {
	case SETTING_TEXT:
	case SETTING_DEBUG:
	case SETTING_CPUS:
		return SHAPE_TEXT;
	case SETTING_LIST:
		return SHAPE_LIST;
	case SETTING_SIZE:
	case SETTING_NUMBER64:
		return SHAPE_8;
	case SETTING_BOOL:
		return SHAPE_1;
	default:
		return SHAPE_4;
	}
}

void setting_clear(const struct setting *s, struct options *o)
{
	if (setting_shape(s) == SHAPE_TEXT) {
		char **at = setting_at(s, o);

		free(*at);
		*at = NULL;
	} else if (setting_shape(s) == SHAPE_LIST) {
		char ***at = setting_at(s, o);

		list_free(*at);
		*at = NULL;
	}
}

static bool list_equal(char *const *a, char *const *b)
{
	for (; a && b && *a && *b; a++, b++)
		if (strcmp(*a, *b) != 0)
			return false;
	return (!a || !*a) && (!b || !*b);
}

bool setting_equal(const struct setting *s, const struct options *a, const struct options *b)
{
	const void *x = setting_at_const(s, a), *y = setting_at_const(s, b);
	const char *p, *q;

	switch (setting_shape(s)) {
	case SHAPE_TEXT:
		p = *(char *const *)x;
		q = *(char *const *)y;
		return p == q || (p && q && strcmp(p, q) == 0);
	case SHAPE_LIST:
		return list_equal(*(char **const *)x, *(char **const *)y);
	case SHAPE_1:
		return *(const bool *)x == *(const bool *)y;
	case SHAPE_4:
		return *(const uint32_t *)x == *(const uint32_t *)y;
	case SHAPE_8:
		break;
	}
	return *(const uint64_t *)x == *(const uint64_t *)y;
}

static int text_own(char **at)
{
	const char *from = *at;

	*at = from ? strdup(from) : NULL;
	return from && !*at ? -ENOMEM : 0;
}

static int list_own(char ***at, uint64_t max)
{
	char **from = *at, **list;
	size_t i;

	*at = NULL;
	if (!from)
		return 0;
	list = calloc(max + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	for (i = 0; from[i]; i++) {
		list[i] = strdup(from[i]);
		if (!list[i]) {
			list_free(list);
			return -ENOMEM;
		}
	}
	*at = list;
	return 0;
}

int setting_own(const struct setting *s, struct options *o)
{
	switch (setting_shape(s)) {
	case SHAPE_TEXT:
		return text_own(setting_at(s, o));
	case SHAPE_LIST:
		return list_own(setting_at(s, o), s->max);
	default:
		return 0;
	}
}

/* relaxed: each is a number by itself, nothing is published by it */
#define EXCHANGE_NUMBER(TYPE, NOW, OTHER)                                                          \
	do {                                                                                       \
		TYPE *a = (NOW), *b = (OTHER), had = *a;                                           \
                                                                                                   \
		__atomic_store_n(a, *b, __ATOMIC_RELAXED);                                         \
		*b = had;                                                                          \
	} while (0)

void setting_exchange(const struct setting *s, struct options *now, struct options *other)
{
	void *p = setting_at(s, now), *q = setting_at(s, other);

	switch (setting_shape(s)) {
	case SHAPE_1:
		EXCHANGE_NUMBER(bool, p, q);
		return;
	case SHAPE_4:
		EXCHANGE_NUMBER(uint32_t, p, q);
		return;
	case SHAPE_8:
		EXCHANGE_NUMBER(uint64_t, p, q);
		return;
	case SHAPE_TEXT:
		/* release: what it points to; pairs with the acquire of OPTION_POINTER() */
		*(char **)q = __atomic_exchange_n((char **)p, *(char **)q, __ATOMIC_ACQ_REL);
		return;
	case SHAPE_LIST:
		*(char ***)q = __atomic_exchange_n((char ***)p, *(char ***)q, __ATOMIC_ACQ_REL);
		return;
	}
}

/* ---- as text ---- */

void setting_format_size(char *text, size_t size, uint64_t v)
{
	static const char unit[] = { 0, 'K', 'M', 'G', 'T', 0 };
	int u = 0;

	while (v && v % 1024 == 0 && unit[u + 1]) {
		v /= 1024;
		u++;
	}
	if (u)
		snprintf(text, size, "%" PRIu64 "%c", v, unit[u]);
	else
		snprintf(text, size, "%" PRIu64, v);
}

static void format_list(char *const *list, char *text, size_t size)
{
	size_t n = 0;

	text[0] = '\0';
	for (; list && *list && n < size; list++)
		n += (size_t)snprintf(text + n, size - n, "%s%s", n ? ", " : "", *list);
}

void setting_format(const struct setting *s, const struct options *o, char *text, size_t size)
{
	const void *p = setting_at_const(s, o);
	const char *word;
	uint32_t v;

	switch (s->type) {
	case SETTING_TEXT:
	case SETTING_DEBUG:
	case SETTING_CPUS:
		word = *(char *const *)p;
		snprintf(text, size, "%s", word ? word : "");
		return;
	case SETTING_LIST:
		format_list(*(char **const *)p, text, size);
		return;
	case SETTING_SIZE:
		setting_format_size(text, size, *(const uint64_t *)p);
		return;
	case SETTING_NUMBER64:
		snprintf(text, size, "%" PRIu64, *(const uint64_t *)p);
		return;
	case SETTING_NUMBER:
		snprintf(text, size, "%" PRIu32, *(const uint32_t *)p);
		return;
	case SETTING_MODE:
		snprintf(text, size, "%04o", (unsigned int)*(const mode_t *)p);
		return;
	case SETTING_BOOL:
		snprintf(text, size, "%s", boolean[*(const bool *)p]);
		return;
	case SETTING_TIME:
		v = *(const uint32_t *)p;
		snprintf(text, size, "%" PRIu32 "%s", v % 1000 ? v : v / 1000, v % 1000 ? "ms" : "s");
		return;
	case SETTING_BACKING:
		word = backing[*(const enum shm_backing *)p];
		snprintf(text, size, "%s", word ? word : "hugetlb");
		return;
	case SETTING_LEVEL:
		snprintf(text, size, "%s", level[*(const enum log_level *)p]);
		return;
	}
}
