/* SPDX-License-Identifier: MIT */
/*
 * The Accept header (RFC 9110, 12.5.1), as far as two formats are told apart by it:
 *
 *     application/openmetrics-text; version=1.0.0      version left out: any; others: not ours
 *     text/plain, text slash star, star slash star     everybody else
 *
 * Each has the highest weight (q, 1 when there is none) of the ranges that mean it; OpenMetrics is sent
 * when it is asked for by its name with a weight that is not 0 and not below the other's.
 */
#include "daemon/http_accept.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

#define OPENMETRICS "application/openmetrics-text"

struct range {
	const char *type, *version;
	size_t type_length, version_length;
	unsigned int weight; /* thousandths */
};

static size_t blanks(const char *s)
{
	return strspn(s, " \t");
}

/* "0.75" is 750; nonsense is 1000. */
static unsigned int weight_of(const char *s, size_t n)
{
	unsigned int w = 0, digit = 1000;

	if (n == 0 || (*s != '0' && *s != '1'))
		return 1000;
	if (*s == '1')
		return 1000;
	for (size_t i = 2; i < n && i < 5 && s[1] == '.' && s[i] >= '0' && s[i] <= '9'; i++) {
		digit /= 10;
		w += digit * (unsigned int)(s[i] - '0');
	}
	return w;
}

static void read_parameter(struct range *r, const char *s, size_t n)
{
	const char *equals = memchr(s, '=', n), *value;
	size_t name, length;

	if (!equals)
		return;
	name = (size_t)(equals - s);
	value = equals + 1;
	length = n - name - 1;
	while (length && (value[length - 1] == ' ' || value[length - 1] == '\t'))
		length--;
	if (length >= 2 && value[0] == '"' && value[length - 1] == '"') {
		value++;
		length -= 2;
	}
	if (name == 1 && (*s == 'q' || *s == 'Q'))
		r->weight = weight_of(value, length);
	else if (name == 7 && strncasecmp(s, "version", 7) == 0) {
		r->version = value;
		r->version_length = length;
	}
}

/* One range of the list; what follows it. */
static const char *read_range(struct range *r, const char *s)
{
	*r = (struct range){ .weight = 1000 };
	s += blanks(s);
	r->type = s;
	r->type_length = strcspn(s, ";, \t");
	s += r->type_length;
	s += blanks(s);
	while (*s == ';') {
		size_t n;

		s++;
		s += blanks(s);
		n = strcspn(s, ";,");
		read_parameter(r, s, n);
		s += n;
	}
	s += strcspn(s, ",");
	return *s ? s + 1 : s;
}

static bool type_is(const struct range *r, const char *type)
{
	return r->type_length == strlen(type) && strncasecmp(r->type, type, r->type_length) == 0;
}

static bool version_is(const struct range *r, const char *version)
{
	return !r->version || (r->version_length == strlen(version) &&
	                       memcmp(r->version, version, r->version_length) == 0);
}

bool http_accept_openmetrics(const char *accept)
{
	unsigned int open = 0, plain = 0;
	struct range r;

	while (accept && *accept) {
		accept = read_range(&r, accept);
		if (type_is(&r, OPENMETRICS)) {
			if (version_is(&r, "1.0.0") && r.weight > open)
				open = r.weight;
		} else if ((type_is(&r, "text/plain") && version_is(&r, "0.0.4")) ||
		           type_is(&r, "text/*") || type_is(&r, "*/*")) {
			if (r.weight > plain)
				plain = r.weight;
		}
	}
	return open && open >= plain;
}
