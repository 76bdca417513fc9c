/* SPDX-License-Identifier: MIT */
/*
 * The settings. In the order of the file's sections, which kmmd.conf and kmmd.conf(5) have too.
 */
#include "daemon/http_address.h"
#include "daemon/setting.h"
#include "mm/types.h"

#define KIB UINT64_C(1024)
#define MIB (KIB << 10)
#define GIB (MIB << 10)
#define TIB (GIB << 10)

#define AT(FIELD) offsetof(struct options, FIELD)

#define BACKING_BIT(NAME) (UINT64_C(1) << SHM_##NAME)
#define ZONE_BACKING(KEY)                                                                        \
	{                                                                                        \
		.section = "pool", .key = #KEY, .type = SETTING_BACKING, .offset = AT(KEY),      \
		.min = BACKING_BIT(AUTO), .otherwise = "as backing", .unit = "",                 \
		.allowed = "hugetlb, thp or 4k"                                                  \
	}
#define HIGH_BACKING(KEY)                                                                        \
	{                                                                                        \
		.section = "pool", .key = #KEY, .type = SETTING_BACKING, .offset = AT(KEY),      \
		.min = BACKING_BIT(AUTO) | BACKING_BIT(HUGETLB_2M), .initial = "4k", .unit = "", \
		.allowed = "thp or 4k: these zones are mapped page by page"                      \
	}
/* A session's or a user's most of something. */
#define QUOTA(SECTION, KEY, FIELD, UNIT)                                                         \
	{                                                                                        \
		.section = SECTION, .key = KEY, .type = SETTING_NUMBER64, .offset = AT(FIELD),   \
		.max = UINT32_MAX, .live = true, .initial = "0", .unit = UNIT,                   \
		.allowed = "a number up to 4294967295; 0 for no limit"                           \
	}
#define NAMES_MAX 64
#define NAMES(KEY, FIELD, OTHERWISE)                                                             \
	{                                                                                        \
		.section = "access", .key = KEY, .type = SETTING_LIST, .offset = AT(FIELD),      \
		.max = NAMES_MAX, .live = true, .otherwise = OTHERWISE, .unit = "",              \
		.allowed = "at most 64 users, by name or number, and groups as @name, between "  \
			   "commas"                                                              \
	}

const struct setting setting_table[] = {
	{ .section = "pool", .key = "size", .option = "pool-size", .type = SETTING_SIZE,
	  .offset = AT(pool_size), .min = 16 * MIB, .max = TIB, .initial = "1G", .unit = "bytes",
	  .allowed = "a size from 16M to 1T" },
	{ .section = "pool", .key = "max_size", .type = SETTING_SIZE, .offset = AT(pool_max),
	  .min = 16 * MIB, .max = TIB, .otherwise = "as size", .unit = "bytes",
	  .allowed = "a size from 16M to 1T, at least size" },
	{ .section = "pool", .key = "section_size", .option = "section-size", .type = SETTING_SIZE,
	  .offset = AT(section_size), .min = 4 * MIB, .max = GIB, .otherwise = "by max_size",
	  .unit = "bytes", .allowed = "a power of two from 4M to 1G" },
	{ .section = "pool", .key = "backing", .option = "backing", .type = SETTING_BACKING,
	  .offset = AT(backing), .initial = "auto", .unit = "",
	  .allowed = "auto, hugetlb, thp or 4k" },
	ZONE_BACKING(dma_backing),
	ZONE_BACKING(dma32_backing),
	ZONE_BACKING(normal_backing),
	HIGH_BACKING(highmem_backing),
	HIGH_BACKING(movable_backing),
	{ .section = "pool", .key = "huge_page_size", .type = SETTING_SIZE,
	  .offset = AT(huge_page_size), .min = 2 * MIB, .max = GIB, .initial = "2M",
	  .unit = "bytes", .allowed = "2M or 1G" },
	{ .section = "pool", .key = "nodes", .option = "nodes", .type = SETTING_NUMBER,
	  .offset = AT(nodes), .min = 1, .max = MAX_NODES, .initial = "1", .unit = "nodes",
	  .allowed = "a number from 1 to 64" },
	{ .section = "pool", .key = "dma_size", .type = SETTING_SIZE, .offset = AT(dma_size),
	  .max = TIB, .initial = "16M", .unit = "bytes", .allowed = "a size up to dma32_size" },
	{ .section = "pool", .key = "dma32_size", .type = SETTING_SIZE, .offset = AT(dma32_size),
	  .max = 4 * GIB, .initial = "4G", .unit = "bytes", .allowed = "a size up to 4G" },
	{ .section = "pool", .key = "highmem", .type = SETTING_SIZE, .offset = AT(highmem),
	  .max = TIB, .otherwise = "a sixteenth of the pool", .unit = "bytes",
	  .allowed = "a size up to the pool's; 0 for none" },
	{ .section = "pool", .key = "movable", .type = SETTING_SIZE, .offset = AT(movable),
	  .max = TIB, .initial = "0", .unit = "bytes",
	  .allowed = "a size up to the pool's; 0 for none" },

	{ .section = "daemon", .key = "socket", .option = "socket", .type = SETTING_TEXT,
	  .offset = AT(socket), .min = 1, .max = 107,
	  .otherwise = "root's /run/kmmd/kmmd.sock, others' $XDG_RUNTIME_DIR/kmmd/kmmd.sock",
	  .unit = "", .allowed = "a path of at most 107 bytes that begins with /" },
	{ .section = "daemon", .key = "socket_mode", .type = SETTING_MODE,
	  .offset = AT(socket_mode), .max = 0777, .live = true, .initial = "0660", .unit = "",
	  .allowed = "an octal mode such as 0660" },
	{ .section = "daemon", .key = "socket_group", .type = SETTING_TEXT,
	  .offset = AT(socket_group), .min = 1, .max = 255, .live = true,
	  .otherwise = "root's kmm, if there is that group", .unit = "",
	  .allowed = "the name of a group that exists" },
	{ .section = "daemon", .key = "reactors", .option = "reactors", .type = SETTING_NUMBER,
	  .offset = AT(reactors), .min = 1, .max = MAX_CPUS, .otherwise = "one a CPU",
	  .unit = "threads", .allowed = "a number from 1 to 256" },
	{ .section = "daemon", .key = "cpus", .type = SETTING_CPUS, .offset = AT(cpus), .min = 1,
	  .max = 1000, .otherwise = "all that it may run on", .unit = "",
	  .allowed = "numbers and ranges of CPUs such as 0-3,8" },
	{ .section = "daemon", .key = "pin", .type = SETTING_BOOL, .offset = AT(pin),
	  .initial = "yes", .unit = "", .allowed = "yes or no" },
	{ .section = "daemon", .key = "grace", .type = SETTING_TIME, .offset = AT(grace_ms),
	  .max = 3600000, .initial = "5s", .unit = "seconds",
	  .allowed = "a time up to an hour such as 5s or 500ms" },
	{ .section = "daemon", .key = "slab_debug", .type = SETTING_DEBUG, .offset = AT(slab_debug),
	  .min = 1, .max = SETTING_VALUE_MAX, .live = true, .otherwise = "none", .unit = "",
	  .allowed = "FLAGS[,PATTERN][;FLAGS,PATTERN]... without blanks, FLAGS of the letters F, Z, "
		     "P and U" },

	{ .section = "log", .key = "level", .type = SETTING_LEVEL, .offset = AT(log_level),
	  .live = true, .initial = "info", .unit = "",
	  .allowed = "error, warning, notice, info or debug" },
	{ .section = "log", .key = "refusals_per_minute", .type = SETTING_NUMBER,
	  .offset = AT(log_refusals), .max = 1000000, .live = true, .initial = "60",
	  .unit = "lines", .allowed = "a number from 1 to 1000000; 0 for no limit" },
	{ .section = "log", .key = "sessions_per_minute", .type = SETTING_NUMBER,
	  .offset = AT(log_sessions), .max = 1000000, .live = true, .initial = "600",
	  .unit = "lines", .allowed = "a number from 1 to 1000000; 0 for no limit" },

	{ .section = "metrics", .key = "listen", .type = SETTING_TEXT, .offset = AT(metrics_listen),
	  .max = 107, .live = true, .otherwise = "none", .unit = "",
	  .allowed = HTTP_ADDRESS_ALLOWED },

	NAMES("users", access_users, "whom the socket's mode lets in"),
	NAMES("inspectors", access_inspectors, "all who may connect"),
	NAMES("admins", access_admins, "root and the daemon's own user"),

	{ .section = "limits", .key = "sessions", .type = SETTING_NUMBER,
	  .offset = AT(sessions_max), .min = 1, .max = 65535, .initial = "4096",
	  .unit = "sessions", .allowed = "a number from 1 to 65535" },
	{ .section = "limits", .key = "channels", .type = SETTING_NUMBER,
	  .offset = AT(channels_max), .min = 1, .max = 256, .live = true, .initial = "8",
	  .unit = "connections", .allowed = "a number from 1 to 256" },
	{ .section = "limits", .key = "calls", .type = SETTING_NUMBER, .offset = AT(calls_max),
	  .min = 1, .max = 65536, .live = true, .initial = "1024", .unit = "calls",
	  .allowed = "a number from 1 to 65536" },
	QUOTA("limits", "pages", pages_max, "pages"),
	QUOTA("limits", "objects", objects_max, "objects"),
	QUOTA("limits", "caches", caches_max, "caches"),
	{ .section = "limits", .key = "holders", .type = SETTING_NUMBER, .offset = AT(holders_max),
	  .min = 64, .max = 16777216, .initial = "65536", .unit = "holds",
	  .allowed = "a number from 64 to 16777216" },
	{ .section = "limits", .key = "holders_per_session", .type = SETTING_NUMBER,
	  .offset = AT(holders_session_max), .min = 1, .max = 16777216, .live = true,
	  .initial = "16384", .unit = "holds", .allowed = "a number from 1 up to holders" },
	{ .section = "limits", .key = "names_per_user", .type = SETTING_NUMBER,
	  .offset = AT(names_user_max), .min = 1, .max = 65536, .live = true, .initial = "16384",
	  .unit = "names", .allowed = "a number from 1 to 65536" },
	{ .section = "limits", .key = "thread_cache", .type = SETTING_SIZE,
	  .offset = AT(thread_cache), .max = GIB, .live = true, .initial = "4M", .unit = "bytes",
	  .allowed = "a size up to 1G" },

	QUOTA("user", "pages", user_default.pages, "pages"),
	QUOTA("user", "objects", user_default.objects, "objects"),
	QUOTA("user", "caches", user_default.caches, "caches"),
	QUOTA("user", "channels", user_default.channels, "connections"),
	QUOTA("user", "calls", user_default.calls, "calls"),
	QUOTA("user", "sessions", user_default.sessions, "sessions"),
	{ .key = NULL },
};
_Static_assert(sizeof(setting_table) / sizeof(setting_table[0]) <= OPTIONS_SETTINGS_MAX,
               "struct options has an origin for each");
