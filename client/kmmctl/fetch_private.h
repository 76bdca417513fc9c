/* SPDX-License-Identifier: MIT */
/*
 * What the fetch_*.c share: growing arrays, streams, texts.
 */
#ifndef CLIENT_KMMCTL_FETCH_PRIVATE_H
#define CLIENT_KMMCTL_FETCH_PRIVATE_H

#include "client/kmmctl/fetch.h"

struct vector {
	void *item;
	size_t size; /* of one item */
	size_t n, room;
};

/* A zeroed item at the end; NULL: out of memory. */
void *vector_add(struct vector *v);
/* The array becomes the caller's when the call succeeded; else it is freed. */
enum connection_result vector_finish(struct vector *v, enum connection_result result, void *ret,
                                     size_t *n);

/* All items of a stream as they come, but for `clean`. */
enum connection_result fetch_list(struct connection *c, kmm_v1_Method method,
                                  const pb_msgdesc_t *request_type, const void *request,
                                  const pb_msgdesc_t *item_type, size_t size,
                                  void (*clean)(void *item), void *ret, size_t *n);
#define FETCH_LIST(c, method, Request, request, Item, clean, ret, n)                               \
	fetch_list(c, kmm_v1_Method_##method, kmm_v1_##Request##Request_fields, request,           \
	           kmm_v1_##Item##_fields, sizeof(kmm_v1_##Item), clean, ret, n)

/* The same for a request that has a domain, and nothing else. */
#define FETCH_DOMAIN(c, domain_, method, What, Item, clean, ret, n)                                \
	({                                                                                         \
		kmm_v1_##What##Request request_ = kmm_v1_##What##Request_init_zero;                \
                                                                                                   \
		fetch_copy_domain(request_.domain, sizeof(request_.domain), domain_)               \
			? FETCH_LIST(c, method, What, &request_, Item, clean, ret, n)              \
			: CONNECTION_FAILED;                                                       \
	})

/* Items that are looked at as they come: each(v, item). */
#define FETCH_STREAM(c, domain_, method, What, Item, each, v)                                      \
	({                                                                                         \
		kmm_v1_##What##Request request_ = kmm_v1_##What##Request_init_zero;                \
		kmm_v1_##Item item_;                                                               \
                                                                                                   \
		fetch_copy_domain(request_.domain, sizeof(request_.domain), domain_)               \
			? connection_stream(c, kmm_v1_Method_##method,                             \
			                    kmm_v1_##What##Request_fields, &request_,              \
			                    kmm_v1_##Item##_fields, &item_, each, v)               \
			: CONNECTION_FAILED;                                                       \
	})

#define FETCH_CALL(c, method, Request, request, Reply, reply)                                      \
	connection_call(c, kmm_v1_Method_##method, kmm_v1_##Request##Request_fields, request,      \
	                kmm_v1_##Reply##_fields, reply)

/* Leaves out what does not fit. */
void fetch_copy_text(char *to, size_t room, const char *from);
/* False: it does not fit. NULL leaves `to` as it is. */
bool fetch_copy_domain(char *to, size_t room, const char *domain);

#endif
