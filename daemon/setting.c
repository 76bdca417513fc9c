/* SPDX-License-Identifier: MIT */
/*
 * Settings: the table, and reading a value of each type.
 *
 * Reading never guesses: a number with a letter behind it, a size that overflows, an empty word are
 * refused, and the option stays what it was. Bounds that depend on other settings are checked when
 * all have been read (options.c).
 */
#include "daemon/setting.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/slab_debug.h"
#include "mm/types.h"

#define KIB UINT64_C(1024)
#define MIB (KIB << 10)
#define GIB (MIB << 10)
#define TIB (GIB << 10)

#define AT(field) offsetof(struct options, field)

const struct setting setting_table[] = {
        {"pool", "size", "pool-size", SETTING_SIZE, AT(pool_size), 16 * MIB, TIB, true,
         "a size from 16M to 1T"},
        {"pool", "section_size", "section-size", SETTING_SIZE, AT(section_size), 4 * MIB, GIB, true,
         "a power of two from 4M to 1G"},
        {"pool", "backing", "backing", SETTING_BACKING, AT(backing), 0, 0, true,
         "auto, hugetlb, thp or 4k"},
        {"pool", "huge_page_size", NULL, SETTING_SIZE, AT(huge_page_size), 2 * MIB, GIB, true,
         "2M or 1G"},
        {"pool", "nodes", "nodes", SETTING_NUMBER, AT(nodes), 1, MAX_NODES, true,
         "a number from 1 to 64"},
        {"pool", "dma_size", NULL, SETTING_SIZE, AT(dma_size), 0, TIB, true,
         "a size up to dma32_size"},
        {"pool", "dma32_size", NULL, SETTING_SIZE, AT(dma32_size), 0, 4 * GIB, true,
         "a size up to 4G"},
        {"pool", "highmem", NULL, SETTING_SIZE, AT(highmem), 0, TIB, true,
         "a size up to the pool's; 0 for none"},
        {"pool", "movable", NULL, SETTING_SIZE, AT(movable), 0, TIB, true,
         "a size up to the pool's; 0 for none"},

        {"daemon", "socket", "socket", SETTING_TEXT, AT(socket), 1, 107, true,
         "a path of at most 107 bytes that begins with /"},
        {"daemon", "socket_mode", NULL, SETTING_MODE, AT(socket_mode), 0, 0777, true,
         "an octal mode such as 0660"},
        {"daemon", "socket_group", NULL, SETTING_TEXT, AT(socket_group), 1, 255, true,
         "the name of a group that exists"},
        {"daemon", "reactors", "reactors", SETTING_NUMBER, AT(reactors), 1, MAX_CPUS, true,
         "a number from 1 to 256"},
        {"daemon", "pin", NULL, SETTING_BOOL, AT(pin), 0, 0, true, "yes or no"},
        {"daemon", "grace", NULL, SETTING_TIME, AT(grace_ms), 0, 3600000, true,
         "a time up to an hour such as 5s or 500ms"},
        {"daemon", "slab_debug", NULL, SETTING_DEBUG, AT(slab_debug), 1, 4095, true,
         "FLAGS[,PATTERN][;FLAGS,PATTERN]... without blanks, FLAGS of the letters F, Z, P and U"},
        {"daemon", "log_level", NULL, SETTING_LEVEL, AT(log_level), 0, 0, false,
         "error, warning, notice, info or debug"},

        {"limits", "sessions", NULL, SETTING_NUMBER, AT(sessions_max), 1, 65535, true,
         "a number from 1 to 65535"},
        {"limits", "channels", NULL, SETTING_NUMBER, AT(channels_max), 1, 256, true,
         "a number from 1 to 256"},
        {"limits", "calls", NULL, SETTING_NUMBER, AT(calls_max), 1, 65536, true,
         "a number from 1 to 65536"},
        {"limits", "pages", NULL, SETTING_NUMBER64, AT(pages_max), 0, UINT32_MAX, true,
         "a number of 4 KiB pages; 0 for no limit"},
        {"limits", "holders", NULL, SETTING_NUMBER, AT(holders_max), 64, 16777216, true,
         "a number from 64 to 16777216"},
        {"limits", "holders_per_session", NULL, SETTING_NUMBER, AT(holders_session_max), 1,
         16777216, true, "a number from 1 up to holders"},
        {"limits", "names_per_user", NULL, SETTING_NUMBER, AT(names_user_max), 1, 65536, true,
         "a number from 1 to 65536"},
        {"limits", "thread_cache", NULL, SETTING_SIZE, AT(thread_cache), 0, GIB, true,
         "a size up to 1G"},

        {"access", "admins", NULL, SETTING_LIST, AT(admin_users), 0, 64, true,
         "at most 64 users, by name or number, between commas"},
        {0},
};

const struct setting *setting_find(const char *section, const char *key)
{
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

	if (n < s->min || n > s->max || (s->type == SETTING_DEBUG && !slab_debug_valid(value)))
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

static int apply_word(const struct setting *s, struct options *o, const char *value)
{
	static const char *const boolean[] = {"no", "yes"};
	static const char *const backing[] = {[SHM_AUTO] = "auto",
	                                      [SHM_HUGETLB_2M] = "hugetlb",
	                                      [SHM_THP] = "thp",
	                                      [SHM_4K] = "4k"};
	static const char *const level[] = {"error", "warning", "notice", "info", "debug"};
	int v;

	switch (s->type) {
	case SETTING_BOOL:
		if (read_word(value, boolean, 2, &v) < 0)
			return -EINVAL;
		*(bool *)setting_at(s, o) = v;
		return 0;
	case SETTING_BACKING:
		if (read_word(value, backing, sizeof(backing) / sizeof(backing[0]), &v) < 0)
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

void setting_clear(const struct setting *s, struct options *o)
{
	if (s->type == SETTING_TEXT || s->type == SETTING_DEBUG) {
		char **at = setting_at(s, o);

		free(*at);
		*at = NULL;
	} else if (s->type == SETTING_LIST) {
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

	switch (s->type) {
	case SETTING_TEXT:
	case SETTING_DEBUG:
		p = *(char *const *)x;
		q = *(char *const *)y;
		return p == q || (p && q && strcmp(p, q) == 0);
	case SETTING_LIST:
		return list_equal(*(char **const *)x, *(char **const *)y);
	case SETTING_SIZE:
	case SETTING_NUMBER64:
		return *(const uint64_t *)x == *(const uint64_t *)y;
	case SETTING_BOOL:
		return *(const bool *)x == *(const bool *)y;
	case SETTING_MODE:
		return *(const mode_t *)x == *(const mode_t *)y;
	case SETTING_BACKING:
		return *(const enum shm_backing *)x == *(const enum shm_backing *)y;
	case SETTING_LEVEL:
		return *(const enum log_level *)x == *(const enum log_level *)y;
	case SETTING_NUMBER:
	case SETTING_TIME:
		break;
	}
	return *(const uint32_t *)x == *(const uint32_t *)y;
}
