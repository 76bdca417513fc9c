/* SPDX-License-Identifier: MIT */
/*
 * The rack: full magazines of objects that members of the domain pass to each other without the
 * daemon, and empty ones (shm/control.h; daemon/rack.c has the daemon's half).
 *
 *     who gives                                 who takes
 *     ---------                                 ---------
 *     words -> magazine m, rounds, kind         a slot of the cache's rack says m
 *     header LOADED(me) -> RACK, count          header RACK, of that kind -> LOADED(me)
 *     a free slot: m                            the slot: cleared
 *                                               words that name m -> mine
 *
 * Each of the two exchanges of the header has one winner, and between any two steps the header and
 * the words say whose the objects are:
 *
 *     dies                                      then
 *     before the header is exchanged            m is LOADED by the dead: the sweep frees what names it
 *     the giver, before the slot                m is in no slot: the daemon finds it
 *     the taker, before the slot is cleared     the slot is stale: who meets it clears it
 *
 * A slot is a hint, because it is not changed together with the header. It may name a magazine that
 * was fetched meanwhile, or two slots the same one; a clearing that comes late may hit the same
 * magazine's next stay there, which is then found by the daemon alone. No number of the rack is
 * believed: magazines are bounded, kinds compared, and a word that does not name the magazine is no
 * round.
 *
 * Not for all. Where memory is short all goes to the daemon, which serves who waits. A session with
 * a quota, of its own or its user's, is to be charged for what it gets: the daemon says so, at any
 * time (CONTROL_RACKS_OFF). A pool of several nodes has a depot for each, except
 * for caches that are spread over them. Who has only opened a cache needs constructed objects, and
 * the daemon picks those.
 */
#include "client/object.h"

static bool rack_is_for(struct kmm *k, struct exchange x)
{
	/* relaxed: a wish; what is on its way is found by counting */
	return x.cache && k->racks && !pressure(k) &&
	       !(atomic_load_explicit(&k->control.session[k->id].racks, memory_order_relaxed) &
	         CONTROL_RACKS_OFF) &&
	       (k->nodes == 1 || (x.cache->view->flags & KMM_SLAB_MEM_SPREAD));
}

/* The sweep asks the rack about sessions that say so. */
static void rack_mark(struct kmm *k)
{
	_Atomic uint32_t *used = &k->control.session[k->id].racks;

	/* release: before any header is exchanged; pairs with the sweep's acquire */
	if (unlikely(!(atomic_load_explicit(used, memory_order_relaxed) & CONTROL_RACKS_USED)))
		atomic_fetch_or_explicit(used, CONTROL_RACKS_USED, memory_order_release);
}

/* relaxed, both: counters for reports */
static void rack_count(_Atomic uint64_t *magazines, _Atomic uint64_t *rounds, uint32_t n)
{
	atomic_fetch_add_explicit(magazines, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(rounds, n, memory_order_relaxed);
}

bool rack_give(struct kmm *k, struct exchange x, uint32_t m, uint64_t *h, uint32_t count)
{
	struct control_rack_use *use = &k->control.session[k->id].rack_use;
	struct magazine *mag = &k->control.magazine[m];
	struct control_rack *rack;
	uint64_t racked;

	if (!rack_is_for(k, x) || x.told || scarce(k))
		return false;
	rack = &k->control.rack[x.cache->id];
	if (!control_rack_has_room(rack))
		return false;
	rack_mark(k);
	racked = magazine_next(*h, MAGAZINE_RACK, 0, count);
	if (!magazine_cas(mag, h, racked))
		return true; /* scribbled over: the daemon's sweep finds the words */
	if (control_rack_put(rack, m)) {
		rack_count(&use->given, &use->given_rounds, count);
		return true;
	}
	/* Others were faster. If somebody has it by now, it is done. */
	*h = magazine_next(racked, MAGAZINE_DEPOT, 0, count);
	return !magazine_cas(mag, &racked, *h);
}

/* Takes the magazine that a slot says is there, if it is, of that kind, with `least` to `most`
 * rounds; its count. */
static bool slot_take(struct kmm *k, struct control_rack *rack, uint32_t slot, uint32_t kind,
                      uint32_t least, uint32_t most, uint32_t *m, uint32_t *count)
{
	/* relaxed: a hint */
	uint32_t said = atomic_load_explicit(&rack->slot[slot], memory_order_relaxed), n;
	struct magazine *mag;
	uint64_t h;

	if (said == 0)
		return false;
	if (said > k->control.geometry.magazines) {
		control_rack_clear(rack, slot, said);
		return false;
	}
	mag = &k->control.magazine[said - 1];
	h = magazine_load(mag);
	n = magazine_count(h);
	/* relaxed: written before the header, whose tag makes the look and the exchange one */
	if (!magazine_is(h, MAGAZINE_RACK, 0) || (n == 0) != (kind == 0) ||
	    (kind && atomic_load_explicit(&mag->kind, memory_order_relaxed) != kind)) {
		control_rack_clear(rack, slot, said);
		return false;
	}
	if (n < least || n > most || !magazine_cas(mag, &h, magazine_next(h, MAGAZINE_LOADED, k->id, n)))
		return false;
	control_rack_clear(rack, slot, said);
	*m = said - 1;
	*count = n;
	return true;
}

bool rack_take(struct kmm *k, struct exchange x, uint32_t most, uint32_t *m, uint32_t *count)
{
	struct control_rack_use *use = &k->control.session[k->id].rack_use;
	struct control_rack *rack;
	uint32_t slot;

	if (!rack_is_for(k, x) || x.cache->opened_only)
		return false;
	rack = &k->control.rack[x.cache->id];
	rack_mark(k);
	for (slot = 0; slot < CONTROL_RACK_SLOTS; slot++)
		if (slot_take(k, rack, slot, MAGAZINE_OF_OBJECTS | x.cache->id, 1, most, m,
		              count)) {
			rack_count(&use->taken, &use->taken_rounds, *count);
			return true;
		}
	return false;
}

bool rack_put_empty(struct kmm *k, uint32_t m, uint64_t h)
{
	struct magazine *mag = &k->control.magazine[m];
	uint64_t racked = magazine_next(h, MAGAZINE_RACK, 0, 0);

	if (!control_rack_has_room(&k->control.rack[0]))
		return false;
	rack_mark(k);
	if (magazine_cas(mag, &h, racked) && !control_rack_put(&k->control.rack[0], m))
		magazine_cas(mag, &racked, magazine_next(racked, MAGAZINE_EMPTY, 0, 0));
	return true;
}

bool rack_take_empty(struct kmm *k, uint32_t *m)
{
	uint32_t slot, none;

	rack_mark(k);
	for (slot = 0; slot < CONTROL_RACK_SLOTS; slot++)
		if (slot_take(k, &k->control.rack[0], slot, 0, 0, 0, m, &none))
			return true;
	return false;
}
