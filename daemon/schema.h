/* SPDX-License-Identifier: MIT */
/*
 * Messages described as text, from their descriptors: what Health.ListMethods tells.
 */
#ifndef DAEMON_SCHEMA_H
#define DAEMON_SCHEMA_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

/* Writes the definition of a message in proto3's notation, and after it those of the messages and
 * enums that it uses, each once. Returns the length that the whole text has; no more than size - 1
 * bytes and a NUL are written. */
size_t schema_text(char *text, size_t size, const ProtobufCMessageDescriptor *message);

#endif
