/* SPDX-License-Identifier: MIT */
/*
 * What the command line and the configuration file say. The file is read first, the command line
 * overrides it; everything is checked before anything is used, and a refusal names file, line, key
 * (or option), value and what is allowed.
 */
#ifndef DAEMON_OPTIONS_H
#define DAEMON_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/log.h"
#include "shm/memfd.h"

#define OPTIONS_SETTINGS_MAX 64u
#define OPTIONS_HIGHMEM_DEFAULT UINT64_MAX

struct options {
	char *config;    /* --config; NULL: none */
	char *socket;    /* default: /run/kmmd/kmmd.sock as root, else $XDG_RUNTIME_DIR/kmmd/kmmd.sock */
	mode_t socket_mode;      /* 0660 */
	char *socket_group;      /* "kmm" as root when that group exists, else NULL */
	char **admin_users;      /* names or numbers, NULL-terminated; root and the daemon's own user
	                            are admins always */
	uint64_t pool_size;      /* bytes; 1 GiB */
	uint64_t section_size;   /* bytes; 0: by the pool's size */
	enum shm_backing backing;
	uint64_t huge_page_size; /* of hugetlb sections: 2 MiB or 1 GiB */
	uint64_t dma_size;       /* bytes below which ZONE_DMA lies: 16 MiB */
	uint64_t dma32_size;     /* 4 GiB */
	uint64_t highmem;        /* bytes; OPTIONS_HIGHMEM_DEFAULT: by the pool's size */
	uint64_t movable;        /* bytes; 0 */
	uint32_t nodes;          /* 1 */
	uint32_t reactors;       /* 0: one a CPU that it may run on */
	bool pin;                /* reactors to CPUs: true */
	uint32_t grace_ms;       /* 5000 */
	uint32_t sessions_max;   /* 4096 */
	uint32_t channels_max;   /* a session: 8, its control channel not counted */
	uint32_t calls_max;      /* in flight, a session: 1024 */
	uint64_t pages_max;      /* frames a session; 0: no limit */
	uint32_t holders_max;    /* holds in all: 65536 */
	uint32_t holders_session_max; /* holds a session: 16384 */
	uint32_t names_user_max;      /* published names a user: 16384 */
	uint64_t thread_cache;   /* bytes a client thread may cache: 4 MiB */
	char *slab_debug;        /* debugging flags of caches by name (slab_debug.h); NULL: none */
	enum log_level log_level;
	bool supervise, check_config;
	/* where each setting of setting.h's table came from: a line of the file, or one of these */
	uint32_t origin[OPTIONS_SETTINGS_MAX];
};
#define OPTIONS_ORIGIN_DEFAULT 0u
#define OPTIONS_ORIGIN_COMMAND_LINE UINT32_MAX

/* 0: run. 1: done (--help, --version, --check-config said what it had to). Else an exit status + 1
 * is not used: -EINVAL, with the reason on stderr. */
int options_parse(struct options **ret, int argc, char *argv[]);
struct options *options_free(struct options *o);

#endif
