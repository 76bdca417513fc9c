/* SPDX-License-Identifier: MIT */
/*
 * Watermarks: how much of a zone each kind of request must leave.
 *
 * Concept: `min` is what only requests that cannot wait may use in part; `low` is where background
 * reclaim begins and the first attempt of every request ends; `high` is where reclaim is content;
 * `promo` lies one step further. They grow with the square root of the memory (big pools need
 * relatively less slack) and are spread over the zones by their size. On top, a zone protects
 * itself from requests that could also have been served by a scarcer-to-need, higher zone: such a
 * request must leave reserve[class] more frames.
 *
 *     min_free = clamp(isqrt(16 * lowmem kB), 128, 262144) kB
 *     min      = min_free * managed / sum of managed
 *                HighMem, Movable: clamp(managed / 1024, 32, 128)
 *     d        = max(that share / 4, managed / 1000)
 *     low, high, promo = min + d, min + 2d, min + 3d
 *     reserve[j] of zone i = sum of managed over zones i+1..j of the node / ratio[i]
 *
 * Here low memory is a domain's, so watermarks are the domain's own and no domain can press on
 * another's.
 *
 * Boost: when a request takes a pageblock of another migrate type in parts, memory fragments; the
 * zone's marks are raised for a while so that reclaim makes whole blocks free. Every read of a mark
 * includes the boost.
 *
 * Locking: marks and reserves change under the domain's hotplug lock, the boost under the zone's
 * lock; all are read without. Complexity: a check is O(1) for order 0, O(types) above.
 */
#include "watermark.h"

#define WATERMARK_SCALE_FACTOR 10
#define WATERMARK_BOOST_FACTOR 15000
#define MIN_FREE_KBYTES_LOW 128
#define MIN_FREE_KBYTES_HIGH 262144
#define KBYTES_SHIFT (PAGE_SHIFT - 10)

static const uint32_t reserve_ratio[MAX_NR_ZONES] = { 256, 256, 32, 0, 0 };

static uint64_t isqrt(uint64_t x)
{
	uint64_t root = 0, bit = (uint64_t)1 << 62;

	while (bit > x)
		bit >>= 2;
	for (; bit; bit >>= 2) {
		if (x >= root + bit) {
			x -= root + bit;
			root = (root >> 1) + bit;
		} else {
			root >>= 1;
		}
	}
	return root;
}

uint64_t watermark_min_free_kbytes(uint64_t lowmem_kbytes)
{
	uint64_t k = isqrt(lowmem_kbytes * 16);

	if (k < MIN_FREE_KBYTES_LOW)
		return MIN_FREE_KBYTES_LOW;
	return k > MIN_FREE_KBYTES_HIGH ? MIN_FREE_KBYTES_HIGH : k;
}

static bool zone_is_high(uint32_t z)
{
	return z == ZONE_HIGHMEM || z == ZONE_MOVABLE;
}

static void setup_zone(struct zone *z, uint64_t min_free, uint64_t lowmem)
{
	uint64_t managed = relaxed_load(&z->managed);
	uint64_t share = lowmem ? min_free * managed / lowmem : 0, min = share, step;

	if (zone_is_high(z->index)) {
		min = managed / 1024;
		min = min < 32 ? 32 : min > 128 ? 128 : min;
	}
	step = managed * WATERMARK_SCALE_FACTOR / 10000;
	if (step < share / 4)
		step = share / 4;
	LOCK_SCOPED(&z->lock);
	relaxed_store(&z->boost, 0);
	relaxed_store(&z->nr_free_least, relaxed_load(&z->nr_free));
	for (uint32_t w = 0; w < NR_WMARK; w++)
		relaxed_store(&z->wmark[w], min + w * step);
}

static void setup_reserves(struct mm_domain *d, uint32_t node)
{
	for (uint32_t i = 0; i < MAX_NR_ZONES; i++) {
		struct zone *z = domain_zone(d, node, i);
		bool none = reserve_ratio[i] == 0 || relaxed_load(&z->managed) == 0;
		uint64_t above = 0;

		for (uint32_t j = i + 1; j < MAX_NR_ZONES; j++) {
			above += relaxed_load(&domain_zone(d, node, j)->managed);
			relaxed_store(&z->reserve[j], none ? 0 : above / reserve_ratio[i]);
		}
	}
}

void watermark_setup(struct mm_domain *d)
{
	uint32_t nr = d->mm->config.nodes * MAX_NR_ZONES;
	uint64_t lowmem = 0, min_free;

	for (uint32_t i = 0; i < nr; i++)
		if (!zone_is_high(d->zones[i].index))
			lowmem += relaxed_load(&d->zones[i].managed);
	min_free = watermark_min_free_kbytes(lowmem << KBYTES_SHIFT) >> KBYTES_SHIFT;
	for (uint32_t i = 0; i < nr; i++)
		setup_zone(&d->zones[i], min_free, lowmem);
	for (uint32_t n = 0; n < d->mm->config.nodes; n++)
		setup_reserves(d, n);
}

bool watermark_boost(struct zone *z)
{
	uint64_t most, boost = relaxed_load(&z->boost) + PAGEBLOCK_NR_PAGES;

	if (relaxed_load(&z->managed) < 4 * PAGEBLOCK_NR_PAGES)
		return false;
	most = relaxed_load(&z->wmark[WMARK_HIGH]) * WATERMARK_BOOST_FACTOR / 10000;
	if (most == 0)
		return false;
	if (most < PAGEBLOCK_NR_PAGES)
		most = PAGEBLOCK_NR_PAGES;
	relaxed_store(&z->boost, boost < most ? boost : most);
	return true;
}

void watermark_decay(struct zone *z)
{
	if (relaxed_load(&z->boost) == 0 && !zone_test_flag(z, ZONE_BOOSTED_WATERMARK))
		return;
	LOCK_SCOPED(&z->lock);

	uint64_t boost = relaxed_load(&z->boost), step = boost / 2;

	/* halves, the last pageblock's worth at once */
	if (boost <= PAGEBLOCK_NR_PAGES)
		step = boost;
	relaxed_store(&z->boost, boost - step);
	zone_clear_flag(z, ZONE_BOOSTED_WATERMARK);
	/* migrate types mixed: compaction may make whole pageblocks again. relaxed: a wish */
	if (COMPACT_WANTED_ORDER(relaxed_load(&z->compact_wanted)) < PAGEBLOCK_ORDER)
		relaxed_store(&z->compact_wanted, COMPACT_WANTED(PAGEBLOCK_ORDER, z->index));
}

bool zone_watermark_ok(const struct zone *z, uint32_t order, uint64_t mark, uint32_t zone_class,
                       uint32_t flags)
{
	uint64_t min = mark, unusable = ((uint64_t)1 << order) - 1;
	uint32_t lists;

	if (flags & ALLOC_RESERVES) {
		if (flags & ALLOC_MIN_RESERVE) {
			min -= min / 2;
			if (flags & ALLOC_NON_BLOCK)
				min -= min / 4;
		}
		/* what nobody is given is as good as allocated */
		unusable += relaxed_load(&z->nr_free_isolated);
	} else {
		unusable += relaxed_load(&z->nr_free_special);
	}
	if (relaxed_load(&z->nr_free) <= min + relaxed_load(&z->reserve[zone_class]) + unusable)
		return false;
	if (order == 0)
		return true;
	lists = (uint32_t)relaxed_load(&z->nonempty[MIGRATE_UNMOVABLE]) |
	        relaxed_load(&z->nonempty[MIGRATE_MOVABLE]) |
	        relaxed_load(&z->nonempty[MIGRATE_RECLAIMABLE]);
	if (flags & ALLOC_HIGHATOMIC)
		lists |= relaxed_load(&z->nonempty[MIGRATE_HIGHATOMIC]);
	return lists >> order != 0;
}
