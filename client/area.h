/* SPDX-License-Identifier: MIT */
/*
 * The table of areas in control memory (shm/control.h): what this session tells reports of what it
 * puts together of blocks. See area.c. Thread-safe, no lock, no call to the daemon.
 */
#ifndef CLIENT_AREA_H
#define CLIENT_AREA_H

#include "client/internal.h"

#pragma GCC visibility push(hidden)

#define AREA_NONE UINT32_MAX
#define AREA_NODES 8u
#define AREA_CALLER_MAX sizeof(((struct control_area *)0)->caller)

struct area_about {
	enum control_area_kind kind;
	const void *start;
	size_t size; /* bytes with the guard */
	uint32_t pages;
	uint64_t used;
	uint32_t node_pages[AREA_NODES];
	const char *caller; /* symbol+0x1/0x2; NULL or "": not known */
};

/* An entry of this session, filled in: its place in the table, which stays until area_release().
 * -ENOSPC the table is full; -ENOMEM no memory behind it. No text is set: who only reports goes on
 * with AREA_NONE, which the functions below take for none. */
int area_claim(struct kmm *k, const struct area_about *a, uint32_t *index);
void area_set_kind(struct kmm *k, uint32_t index, enum control_area_kind kind);
void area_set_used(struct kmm *k, uint32_t index, uint64_t used);
void area_set_caller(struct kmm *k, uint32_t index, const char *caller);
void area_release(struct kmm *k, uint32_t index);
/* Adds the pages of a run of frames to the nodes that they lie on. */
void area_count_nodes(struct kmm *k, uint32_t frame, uint32_t pages,
                      uint32_t node_pages[AREA_NODES]);
/* Who called: symbol+0xOFFSET/0xSIZE by the dynamic symbols, for want of one the object's name. Not
 * with a lock held that the program could want while it loads an object. */
void area_caller(const void *return_address, char text[AREA_CALLER_MAX]);

#pragma GCC visibility pop
#endif
