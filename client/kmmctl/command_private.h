/* SPDX-License-Identifier: MIT */
/* What the command*.c share. */
#ifndef CLIENT_KMMCTL_COMMAND_PRIVATE_H
#define CLIENT_KMMCTL_COMMAND_PRIVATE_H

#include <json-c/json.h>

#include "client/kmmctl/command.h"

/* Says why on stderr, and ends a connection that broke. */
enum kmmctl_status command_failed(struct command_context *x, enum connection_result result);
/* The same without saying it. */
enum kmmctl_status command_broke(struct command_context *x, enum connection_result result);
/* Takes the object over. */
enum kmmctl_status command_print_json(struct command_context *x, struct json_object *o);
/* A session's id; false: it is none. */
bool command_parse_id(const char *text, uint32_t *id);
/* Decimal, or hexadecimal behind 0x; false: neither, or too large. */
bool command_parse_page(const char *text, uint32_t *page);

/* command_settings.c */
enum kmmctl_status command_settings(struct command_context *x);
enum kmmctl_status command_set(struct command_context *x);
bool command_check_set(const char *key, const char *value);

/* command_advise.c */
enum kmmctl_status command_why(struct command_context *x);
enum kmmctl_status command_advise(struct command_context *x);
enum kmmctl_status command_domains(struct command_context *x);

/* command_inspect.c, command_top.c, command_users.c */
enum kmmctl_status command_page(struct command_context *x);
enum kmmctl_status command_map(struct command_context *x);
enum kmmctl_status command_frag(struct command_context *x);
enum kmmctl_status command_top(struct command_context *x);
enum kmmctl_status command_users(struct command_context *x);

/* command_sections.c */
enum kmmctl_status command_sections(struct command_context *x);
enum kmmctl_status command_grow(struct command_context *x);
enum kmmctl_status command_online(struct command_context *x);
enum kmmctl_status command_offline(struct command_context *x);
bool command_check_size(const struct command *command, const char *argument);
bool command_check_section(const struct command *command, const char *argument);

/* command_metrics.c */
enum kmmctl_status command_metrics(struct command_context *x);

#endif
