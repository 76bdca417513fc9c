/* SPDX-License-Identifier: MIT */
/*
 * What the command line and the configuration file say. The file is read first, the command line
 * overrides it; everything is checked before anything is used, and a refusal names file, line, key
 * (or option), value and what is allowed.
 *
 * The options of the running daemon change: live settings are exchanged one by one on the main thread
 * (reload.h), while other threads read them. They do so by OPTION() and OPTION_POINTER().
 */
#ifndef DAEMON_OPTIONS_H
#define DAEMON_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "daemon/log.h"
#include "daemon/quota.h"
#include "shm/memfd.h"

#define OPTIONS_SETTINGS_MAX 128u
#define OPTIONS_HIGHMEM_DEFAULT UINT64_MAX

struct options {
	char *config;    /* --config; NULL: none */
	char *socket;    /* default: /run/kmmd/kmmd.sock as root, else $XDG_RUNTIME_DIR/kmmd/kmmd.sock */
	mode_t socket_mode;       /* 0660 */
	char *socket_group;       /* "kmm" as root when that group exists, else NULL */
	/* Names, numbers, @groups; NULL-terminated, NULL: none are given. See access.h. */
	char **access_users, **access_inspectors, **access_admins;
	uint64_t pool_size;      /* bytes; 1 GiB */
	uint64_t pool_max;       /* bytes that it can grow to; 0: no more than pool_size */
	uint64_t section_size;   /* bytes; 0: by the pool's size */
	enum shm_backing backing;
	/* of a zone's sections; SHM_AUTO: as `backing`, the high zones 4k */
	enum shm_backing dma_backing, dma32_backing, normal_backing;
	enum shm_backing highmem_backing, movable_backing;
	uint64_t huge_page_size; /* of hugetlb sections: 2 MiB or 1 GiB */
	uint64_t dma_size;       /* bytes below which ZONE_DMA lies: 16 MiB */
	uint64_t dma32_size;     /* 4 GiB */
	uint64_t highmem;        /* bytes; OPTIONS_HIGHMEM_DEFAULT: by the pool's size */
	uint64_t movable;        /* bytes; 0 */
	uint32_t nodes;          /* 1 */
	uint32_t reactors;       /* 0: one a CPU that it may run on */
	char *cpus;              /* cpu_list.h; NULL: all that it may run on */
	bool pin;                /* reactors to CPUs: true */
	uint32_t grace_ms;       /* 5000 */
	uint32_t sessions_max;   /* 4096 */
	uint32_t channels_max;   /* a session: 8, its control channel not counted */
	uint32_t calls_max;      /* in flight, a session: 1024 */
	uint64_t pages_max;      /* frames a session; 0: no limit */
	uint64_t objects_max;    /* objects a session; 0: no limit */
	uint64_t caches_max;     /* caches that a session made; 0: no limit */
	struct quota user_default;      /* [user]: a user's sessions together */
	struct quota_rules *user_rules; /* [user NAME], [group NAME]; NULL: none; quota_of() */
	uint32_t holders_max;    /* holds in all: 65536 */
	uint32_t holders_session_max; /* holds a session: 16384 */
	uint32_t names_user_max;      /* published names a user: 16384 */
	uint64_t thread_cache;   /* bytes a client thread may cache: 4 MiB */
	char *slab_debug;        /* debugging flags of caches by name (slab_debug.h); NULL: none */
	enum log_level log_level;
	uint32_t log_refusals, log_sessions; /* lines a minute of each user and kind: 60, 600 */
	char *metrics_listen;    /* http_address.h; NULL or empty: not served by HTTP */
	bool supervise, check_config, reserve_huge_pages;
	/* where each setting of setting.h's table came from: a line of the file, or one of these */
	uint32_t origin[OPTIONS_SETTINGS_MAX];
	/* who is told what is wrong, a line without its end */
	void (*say)(void *ctx, const char *text);
	void *say_ctx;
};
#define OPTIONS_ORIGIN_DEFAULT 0u
#define OPTIONS_ORIGIN_COMMAND_LINE UINT32_MAX
#define OPTIONS_ORIGIN_SET (UINT32_MAX - 1) /* in the running daemon */
#define OPTIONS_ORIGIN_POOL (UINT32_MAX - 2) /* as the pool that was taken over was made */

/* A live setting, on any thread of the daemon that runs in its mailboxes. relaxed: a number by itself.
 * acquire: pairs with the exchange of setting_exchange(). */
#define OPTION(O, FIELD) __atomic_load_n(&(O)->FIELD, __ATOMIC_RELAXED)
#define OPTION_POINTER(O, FIELD) __atomic_load_n(&(O)->FIELD, __ATOMIC_ACQUIRE)

/* 0: run. 1: done (--help, --version, --check-config said what it had to). Else an exit status + 1
 * is not used: -EINVAL, with the reason on stderr. */
int options_parse(struct options **ret, int argc, char *argv[]);
/* The same, saying the reasons elsewhere: to read the configuration again. 0 or a negative errno. */
int options_parse_again(struct options **ret, int argc, char *argv[],
                        void (*say)(void *ctx, const char *text), void *ctx);
/* options_check.c: what needs several settings or the machine. Every one that is wrong is said:
 * -EINVAL. */
int options_check(const struct options *o);
/* The size of a section, also where it goes by the pool's. */
uint64_t options_section(const struct options *o);
/* Bytes that the pool may have one day: max_size, or size. */
uint64_t options_pool_most(const struct options *o);
int options_copy(struct options **ret, const struct options *from);
struct options *options_free(struct options *o);

void options_say(const struct options *o, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* ---- options_text.c ---- */

/* As a configuration file that says all that is in force, with where each value is from. */
void options_print(const struct options *o, FILE *out);
/* "default", "kmmd.conf:12", "--pool-size", "set"; s NULL: of a rule for users. */
struct setting;
void options_origin_text(const struct options *o, uint32_t origin, const struct setting *s,
                         char *text, size_t size);
/* The value that is in force, also where the setting itself says "by ...". */
void options_effective(const struct options *o, const struct setting *s, char *text, size_t size);

#endif
