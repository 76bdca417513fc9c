/* SPDX-License-Identifier: MIT */
/*
 * Which function when: the table at the end of every introduction to kernel memory, as one small driver
 * that needs all of them.
 *
 *     many structures of one size      kmem_cache
 *     structures of various sizes      kmalloc
 *     from an interrupt                GFP_ATOMIC
 *     a buffer that a device reads     GFP_DMA
 *     large, for the module alone      vmalloc
 *     whole pages                      __get_free_pages
 *     what user space will see         get_zeroed_page
 */
#include "tests/kernel/kernel_test.h"

/* ---- the driver ---- */

struct command {
	struct command *next;
	unsigned int length;
	char text[48];
};

struct driver {
	struct kmem_cache *commands;
	char *dma_buffer;
	char *history;
	unsigned long shared_page;
	struct command *first, **last;
	unsigned int lost;
};

#define DMA_BYTES 512
#define HISTORY_BYTES (1024 * 1024)

static void driver_remove(struct driver *d)
{
	struct command *c;

	if (!d)
		return;
	while ((c = d->first) != NULL) {
		d->first = c->next;
		kmem_cache_free(d->commands, c);
	}
	free_page(d->shared_page);
	vfree(d->history);
	kfree(d->dma_buffer);
	kmem_cache_destroy(d->commands);
	kfree(d);
}

static struct driver *driver_probe(void)
{
	struct driver *d = kzalloc(sizeof(*d), GFP_KERNEL);

	if (!d)
		return NULL;
	d->last = &d->first;
	d->commands = KMEM_CACHE(command, SLAB_HWCACHE_ALIGN);
	d->dma_buffer = kmalloc(DMA_BYTES, GFP_KERNEL | GFP_DMA);
	d->history = vmalloc(HISTORY_BYTES);
	d->shared_page = get_zeroed_page(GFP_KERNEL);
	if (d->commands && d->dma_buffer && d->history && d->shared_page)
		return d;
	driver_remove(d);
	return NULL;
}

/* "In an interrupt": it may not sleep, and copes with failure. */
static void driver_interrupt(struct driver *d, const char *text)
{
	struct command *c = kmem_cache_alloc(d->commands, GFP_ATOMIC);

	if (!c) {
		d->lost++;
		return;
	}
	c->next = NULL;
	c->length = (unsigned int)snprintf(c->text, sizeof(c->text), "%s", text);
	*d->last = c;
	d->last = &c->next;
}

/* Afterwards, where it may sleep. */
static unsigned int driver_work(struct driver *d)
{
	unsigned int n = 0;
	unsigned long at = 0;

	while (d->first) {
		struct command *c = d->first;
		char *line = kmalloc(c->length + 16, GFP_KERNEL);

		if (!line)
			return n;
		snprintf(line, c->length + 16, "%u: %s\n", n, c->text);
		memcpy(d->history + at, line, strlen(line));
		at += strlen(line);
		kfree(line);
		d->first = c->next;
		kmem_cache_free(d->commands, c);
		n++;
	}
	d->last = &d->first;
	d->history[at] = 0;
	memcpy((char *)d->shared_page, d->history, 100);
	return n;
}

/* ---- the tests ---- */

START_TEST(a_driver)
{
	struct driver *d = driver_probe();
	char text[32];
	int i;

	ck_assert_msg(d != NULL, "%s", kmm_error_text());
	ck_assert_int_eq(((char *)d->shared_page)[PAGE_SIZE - 1], 0);
	for (i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "command %d", i);
		driver_interrupt(d, text);
	}
	ck_assert_uint_eq(driver_work(d), 1000);
	ck_assert_uint_eq(d->lost, 0);
	ck_assert_ptr_eq(strstr(d->history, "0: command 0\n1: command 1\n"), d->history);
	ck_assert_ptr_nonnull(strstr(d->history, "\n999: command 999\n"));
	ck_assert_int_eq(memcmp((char *)d->shared_page, d->history, 100), 0);
	memset(d->dma_buffer, 1, DMA_BYTES);
	driver_remove(d);
	kernel_is_clean();
}
END_TEST

/* The interrupt does not wait for memory: it loses what it cannot keep, and goes on later. */
START_TEST(a_driver_without_memory)
{
	struct driver *d = driver_probe();
	unsigned int i = 0;

	ck_assert_msg(d != NULL, "%s", kmm_error_text());
	kernel_take_memory();
	while (d->lost == 0 && i++ < 10000000)
		driver_interrupt(d, "x");
	ck_assert_uint_eq(d->lost, 1);
	kernel_give_memory();
	driver_interrupt(d, "y");
	ck_assert_uint_eq(d->lost, 1);
	/* some thousand lines fit the history */
	while (i-- > 10000 && d->first) {
		struct command *c = d->first;

		d->first = c->next;
		kmem_cache_free(d->commands, c);
	}
	ck_assert_uint_gt(driver_work(d), 0);
	driver_remove(d);
	kernel_is_clean();
}
END_TEST

KERNEL_CASES(guide)
{
	TCase *t = kernel_case(s, "guide");

	tcase_add_test(t, a_driver);
	tcase_add_test(t, a_driver_without_memory);
}
