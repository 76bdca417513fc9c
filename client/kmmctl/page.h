/* SPDX-License-Identifier: MIT */
/* One page in the kernel's words: what GetPage told, decoded. */
#ifndef CLIENT_KMMCTL_PAGE_H
#define CLIENT_KMMCTL_PAGE_H

#include "client/kmmctl/connection.h"

#include <stdio.h>

/* Texts are cleaned as all that clients said. */
enum connection_result page_fetch(struct connection *c, uint32_t page, kmm_v1_Page *ret);

/* Names of the bits of Page.flags, as the kernel has them. */
#define PAGE_FLAGS 15u
extern const char *const page_flag_names[PAGE_FLAGS];
/* "free", "held", … of Page.kind; "buddy", "slab", … of struct page's page_type, "none". */
const char *page_kind_name(uint32_t kind);
const char *page_type_name(const kmm_v1_Page *p);
const char *page_state_name(kmm_v1_Page_State state);
/* The owner word is one thing's: not a slab's, and there is one. */
bool page_has_word(const kmm_v1_Page *p);
/* What struct page would have in its `mapping`: "session 3", "cache dentry", or "NULL". */
#define PAGE_TEXT_SIZE 160u
const char *page_mapping(char text[PAGE_TEXT_SIZE], const kmm_v1_Page *p);
/* The list that it lies on: "free_area[3][Movable]", "pcp", or "none". */
const char *page_lru(char text[PAGE_TEXT_SIZE], const kmm_v1_Page *p);

void report_page(FILE *out, const kmm_v1_Page *p);

#endif
