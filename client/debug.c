/* SPDX-License-Identifier: MIT */
/*
 * What the debugging flags of a cache check, in the process that allocates or frees.
 *
 *     | red zone | object (size) | red zone to the next 8, and 8 more | user 16 | padding |
 *     |<-offset->|                                                                        |
 *
 *   RED_ZONE    both zones are 0xbb while the object is free and 0xcc while it is in use; a free
 *               finds what was written over. The bytes between the object and the next multiple of
 *               8 belong to the right zone, so that one byte too many shows
 *   POISON      a free object is 0x6b with 0xa5 at its end; the next allocation finds what was
 *               written meanwhile, puts the poison back, and takes another object
 *   STORE_USER  two words, who allocated and who freed it last: session (20 bits) and time (44
 *               bits, milliseconds since the epoch)
 *
 * Only what a free left can be checked: memory of a fresh slab, and of a dead process, is not
 * prepared. CONSTRUCTED of the owner word says which; it is set after the first allocation also in
 * caches without a constructor, and goes when the daemon takes an object from the dead.
 *
 * What is found is told three times: by the error or the event to the program, and by a Report to
 * the daemon, which logs and counts it. The words that say who it was lie beside the object and may
 * have been written over themselves: they are shown, not believed.
 *
 * Nothing here is called for caches without these flags.
 */
#include "client/object.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define POISON_FREE 0x6b
#define POISON_END 0xa5
#define RED_INACTIVE 0xbb
#define RED_ACTIVE 0xcc

#define USER_BITS OWNER_BITS

/* Where the parts of an object lie. */
struct parts {
	uint8_t *object;
	uint32_t size, left, right; /* bytes of the object and of its red zones, 0: none */
	uint64_t *user;             /* NULL: none */
};

static uint32_t round_up_8(uint32_t n)
{
	return (n + 7) & ~UINT32_C(7);
}

static struct parts parts_of(const struct control_cache *v, void *p)
{
	struct parts s = { .object = p, .size = v->size };
	/* from the object's first byte */
	uint32_t end = round_up_8(v->offset + v->size) - v->offset;

	if (v->flags & KMM_SLAB_RED_ZONE) {
		s.left = v->offset;
		end += 8;
		s.right = end - v->size;
	}
	if (v->flags & KMM_SLAB_STORE_USER)
		s.user = (uint64_t *)(void *)(s.object + end);
	return s;
}

/* ---- users ---- */

enum user { USER_ALLOCATED, USER_FREED };

static void user_note(const struct parts *s, enum user which, uint32_t session)
{
	struct timespec t;

	if (!s->user)
		return;
	clock_gettime(CLOCK_REALTIME_COARSE, &t);
	s->user[which] = session | ((uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000)
	                                   << USER_BITS;
}

static uint32_t user_session(const struct parts *s, enum user which)
{
	return s->user ? (uint32_t)(s->user[which] & OWNER_MAX) : 0;
}

/* ", allocated by session 3, freed by session 4 at 12:00:01.250": what is known of it. */
static const char *users_text(const struct parts *s, char buf[96])
{
	static const char *const verb[] = { "allocated", "freed" };
	size_t at = 0;
	unsigned int i;

	buf[0] = '\0';
	for (i = USER_ALLOCATED; i <= USER_FREED; i++) {
		uint64_t ms = s->user ? s->user[i] >> USER_BITS : 0;
		time_t sec = (time_t)(ms / 1000);
		struct tm tm;

		if (!user_session(s, (enum user)i) || !localtime_r(&sec, &tm))
			continue;
		at += (size_t)snprintf(buf + at, 96 - at,
		                       ", %s by session %u at %02d:%02d:%02d.%03u", verb[i],
		                       user_session(s, (enum user)i), tm.tm_hour, tm.tm_min,
		                       tm.tm_sec, (unsigned int)(ms % 1000));
	}
	return buf;
}

/* ---- telling ---- */

static void debug_report(struct kmm *k, const struct parts *s, kmm_v1_ReportRequest_Kind kind,
                         enum kmm_event event, const char *text)
{
	ERROR_TEXT_SCOPE;
	uint64_t at = (uint64_t)(s->object - k->window);
	kmm_v1_ReportRequest q = {
		.kind = kind,
		.granule = (uint32_t)(at >> (FRAME_SHIFT - k->granule_bits)),
		.allocated_by = user_session(s, USER_ALLOCATED),
		.freed_by = user_session(s, USER_FREED),
	};
	struct call_how how = call_begin(k, CALL_NOWAIT);

	snprintf(q.text, sizeof(q.text), "%s", text);
	/* A daemon that is away does not hear of it; the program does. */
	call_notify(k, &how, kmm_v1_Method_ALLOCATOR_REPORT, kmm_v1_ReportRequest_fields, &q);
	event_push(k, event, text);
}

/* ---- red zones ---- */

static void red_set(const struct parts *s, uint8_t colour)
{
	memset(s->object - s->left, colour, s->left);
	memset(s->object + s->size, colour, s->right);
}

/* The first byte of n that is not `byte`; n: all are. */
static uint32_t first_other(const uint8_t *p, uint32_t n, uint8_t byte)
{
	uint32_t i = 0;

	while (i < n && p[i] == byte)
		i++;
	return i;
}

/* Where the object was overrun, as an offset from its first byte; false: nowhere. */
static bool red_find(const struct parts *s, uint8_t colour, int64_t *where)
{
	uint32_t i = first_other(s->object - s->left, s->left, colour);

	if (i < s->left) {
		*where = (int64_t)i - s->left;
		return true;
	}
	i = first_other(s->object + s->size, s->right, colour);
	*where = (int64_t)s->size + i;
	return i < s->right;
}

/* The text of an overrun; its error. */
static int red_text(const struct control_cache *v, const struct parts *s, int64_t where,
                    uint8_t colour)
{
	char users[96];

	return error_set(EFAULT,
	                 "cache %s, object at %p (%u bytes): byte %lld, %s, was written over "
	                 "(0x%02x instead of 0x%02x)%s",
	                 v->name, (void *)s->object, s->size, (long long)where,
	                 where < 0 ? "before it" : "behind its end", s->object[where], colour,
	                 users_text(s, users));
}

/* ---- poison ---- */

static void poison_set(const struct parts *s)
{
	memset(s->object, POISON_FREE, s->size - 1);
	s->object[s->size - 1] = POISON_END;
}

/* As a free object is to look. */
static void free_set(const struct control_cache *v, const struct parts *s)
{
	red_set(s, RED_INACTIVE);
	if (v->flags & KMM_SLAB_POISON)
		poison_set(s);
}

static bool poison_find(const struct parts *s, int64_t *where)
{
	uint32_t i = first_other(s->object, s->size - 1, POISON_FREE);

	*where = i;
	return i < s->size - 1 || s->object[i] != POISON_END;
}

/* ---- the turns of an object's life ---- */

bool debug_on_alloc(struct kmm_cache *c, void *p, bool prepared)
{
	const struct control_cache *v = c->view;
	struct parts s = parts_of(v, p);
	char users[96], text[ERROR_TEXT_MAX];
	const char *what = NULL;
	int64_t where;

	if (prepared && (v->flags & KMM_SLAB_POISON) && poison_find(&s, &where))
		what = "";
	else if (prepared && red_find(&s, RED_INACTIVE, &where))
		what = where < 0 ? " (before the object)" : " (behind the object's end)";
	if (what) {
		snprintf(text, sizeof(text),
		         "cache %s, object at %p (%u bytes): byte %lld%s was written after the "
		         "object was freed (0x%02x)%s",
		         v->name, p, s.size, (long long)where, what, s.object[where],
		         users_text(&s, users));
		debug_report(c->k, &s, kmm_v1_ReportRequest_Kind_USE_AFTER_FREE, KMM_EVENT_CORRUPT,
		             text);
		free_set(v, &s); /* what is written from now on shows again */
		return false;
	}
	red_set(&s, RED_ACTIVE);
	if (!prepared && s.user)
		s.user[USER_FREED] = 0; /* something else lay there */
	user_note(&s, USER_ALLOCATED, c->k->id);
	return true;
}

int debug_on_free(struct kmm *k, const struct control_cache *v, void *p)
{
	struct parts s = parts_of(v, p);
	int64_t where;
	int r = 0;

	if (red_find(&s, RED_ACTIVE, &where)) {
		char text[ERROR_TEXT_MAX];

		r = red_text(v, &s, where, RED_ACTIVE);
		error_text_copy(text);
		debug_report(k, &s, kmm_v1_ReportRequest_Kind_OVERRUN, KMM_EVENT_CORRUPT, text);
	}
	user_note(&s, USER_FREED, k->id);
	free_set(v, &s);
	return r;
}

void debug_on_bad_free(struct kmm *k, const struct thing *t, int error)
{
	struct parts s = parts_of(t->view, thing_name(k, t));
	char users[96], text[ERROR_TEXT_MAX];
	bool twice = error == -ENOENT;

	/* Nothing of it need ever have been ours. acquire: as in section_map */
	if (!atomic_load_explicit(&k->mapped[t->pfn >> (k->section_shift - FRAME_SHIFT)],
	                          memory_order_acquire))
		s.user = NULL;
	error_text_copy(text); /* what the refusal said */
	error_set(-error, "%.*s; session %u frees it%s%s", (int)sizeof(text) - 160, text, k->id,
	          twice ? " again" : "", users_text(&s, users));
	error_text_copy(text);
	debug_report(k, &s,
	             twice ? kmm_v1_ReportRequest_Kind_DOUBLE_FREE
	                   : kmm_v1_ReportRequest_Kind_FOREIGN_FREE,
	             KMM_EVENT_BAD_FREE, text);
}
