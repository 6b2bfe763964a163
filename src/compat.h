/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  What differs between the PostgreSQL and libcurl versions that are
 *	  supported.  No other file looks at a version number.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_COMPAT_H
#define WEBHOOK_COMPAT_H

#include "access/tableam.h"

#if PG_VERSION_NUM < 150000
#error "webhook needs PostgreSQL 15 or later"
#endif

/* PostgreSQL 16 told ExecInsertIndexTuples of summarizing indexes. */
#if PG_VERSION_NUM >= 160000
#define webhook_insert_index_tuples(rri, slot, estate) \
	ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL, false)
#else
#define webhook_insert_index_tuples(rri, slot, estate) \
	ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL)
#endif

/* So did it tell the callers of table_tuple_update. */
#if PG_VERSION_NUM >= 160000
typedef TU_UpdateIndexes WebhookUpdateIndexes;
#define webhook_has_to_index(indexes) ((indexes) != TU_None)
#define webhook_update_index_tuples(rri, slot, estate, indexes) \
	ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL, \
						  (indexes) == TU_Summarizing)
#else
typedef bool WebhookUpdateIndexes;
#define webhook_has_to_index(indexes) (indexes)
#define webhook_update_index_tuples(rri, slot, estate, indexes) \
	webhook_insert_index_tuples(rri, slot, estate)
#endif

/* PostgreSQL 18 has generated columns that are in no tuple. */
#if PG_VERSION_NUM >= 180000
#define webhook_is_virtual(attr) \
	((attr)->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL)
#define webhook_generation_expression(rel, attnum) \
	build_generation_expression(rel, attnum)
#define webhook_expand_generated(node, rel, varno) \
	expand_generated_columns_in_expr(node, rel, varno)
#else
#define webhook_is_virtual(attr) false
#define webhook_generation_expression(rel, attnum) NULL
#define webhook_expand_generated(node, rel, varno) (node)
#endif

/* PostgreSQL 17 has intervals without an end. */
#if PG_VERSION_NUM >= 170000
#define webhook_is_infinite(interval) INTERVAL_NOT_FINITE(interval)
#else
#define webhook_is_infinite(interval) false
#endif

/* PostgreSQL 17 let the caller of makeJsonLexContext supply the struct. */
#if PG_VERSION_NUM >= 170000
#define webhook_make_json_lexer(json, need_escapes) \
	makeJsonLexContext(NULL, json, need_escapes)
#else
#define webhook_make_json_lexer(json, need_escapes) \
	makeJsonLexContext(json, need_escapes)
#endif

/* PostgreSQL 16 made the semantic actions of the JSON parser return a code. */
#if PG_VERSION_NUM >= 160000
#define WEBHOOK_JSON_ACTION JsonParseErrorType
#define WEBHOOK_JSON_OK return JSON_SUCCESS
#else
#define WEBHOOK_JSON_ACTION void
#define WEBHOOK_JSON_OK return
#endif

/* PostgreSQL 16 folded pg_*_ownercheck into object_ownercheck. */
#if PG_VERSION_NUM < 160000
#define webhook_class_ownercheck(oid, role) pg_class_ownercheck(oid, role)
#define webhook_database_ownercheck(oid, role) pg_database_ownercheck(oid, role)
#define webhook_extension_ownercheck(oid, role) pg_extension_ownercheck(oid, role)
#else
#define webhook_class_ownercheck(oid, role) \
	object_ownercheck(RelationRelationId, oid, role)
#define webhook_database_ownercheck(oid, role) \
	object_ownercheck(DatabaseRelationId, oid, role)
#define webhook_extension_ownercheck(oid, role) \
	object_ownercheck(ExtensionRelationId, oid, role)
#endif

/*
 * PostgreSQL 16 has members of a role that may neither use its rights nor become it:
 * who makes others compute with its rights must be able to do one of both.  In SQL,
 * and in C, which needs utils/acl.h.
 */
#if PG_VERSION_NUM >= 160000
#define WEBHOOK_MAY_ACT_AS(member, role) \
	"(pg_catalog.pg_has_role(" member ", " role ", 'USAGE')" \
	" OR pg_catalog.pg_has_role(" member ", " role ", 'SET'))"
#define webhook_may_act_as(member, role) \
	(has_privs_of_role(member, role) || member_can_set_role(member, role))
#else
#define WEBHOOK_MAY_ACT_AS(member, role) \
	"pg_catalog.pg_has_role(" member ", " role ", 'MEMBER')"
#define webhook_may_act_as(member, role) is_member_of_role(member, role)
#endif

/* PostgreSQL 17 made wait event sets belong to a resource owner, or to none. */
#if PG_VERSION_NUM >= 170000
#define webhook_create_wait_events(n) CreateWaitEventSet(NULL, n)
#else
#define webhook_create_wait_events(n) CreateWaitEventSet(TopMemoryContext, n)
#endif

/* PostgreSQL 18 has base64 of uint8, not char. */
#if PG_VERSION_NUM >= 180000
#define webhook_b64_encode(src, len, dst, size) \
	pg_b64_encode((const uint8 *) (src), len, dst, size)
#define webhook_b64_decode(src, len, dst, size) \
	pg_b64_decode(src, len, (uint8 *) (dst), size)
#else
#define webhook_b64_encode(src, len, dst, size) \
	pg_b64_encode((const char *) (src), len, dst, size)
#define webhook_b64_decode(src, len, dst, size) \
	pg_b64_decode(src, len, (char *) (dst), size)
#endif

/*
 * PostgreSQL 16 keeps what check hooks allocate in a memory context of its
 * own; before, it was malloc'd.
 */
#if PG_VERSION_NUM >= 160000
#define webhook_guc_malloc(size) guc_malloc(LOG, size)
#define webhook_guc_free(pointer) guc_free(pointer)
#else
#define webhook_guc_malloc(size) malloc(size)
#define webhook_guc_free(pointer) free(pointer)
#endif

/* PostgreSQL 17 lets extensions name what they wait for. */
#if PG_VERSION_NUM >= 170000
#define webhook_wait_event_new(name) WaitEventExtensionNew(name)
#else
#define webhook_wait_event_new(name) PG_WAIT_EXTENSION
#endif

/* PostgreSQL 18 gave index scans room for instrumentation. */
#if PG_VERSION_NUM >= 180000
#define webhook_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, NULL, nkeys, 0)
#else
#define webhook_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, nkeys, 0)
#endif

#endif							/* WEBHOOK_COMPAT_H */

/* For files that have included curl.h by now. */
#if defined(LIBCURL_VERSION_NUM) && !defined(WEBHOOK_COMPAT_CURL_H)
#define WEBHOOK_COMPAT_CURL_H

#if LIBCURL_VERSION_NUM < 0x074c00
#error "webhook needs libcurl 7.76 or later"
#endif

/* libcurl 7.85 names protocols by strings. */
#if LIBCURL_VERSION_NUM >= 0x075500
#define PROTOCOLS_OPTION CURLOPT_PROTOCOLS_STR
#define PROTOCOLS_ANY "http,https"
#define PROTOCOLS_HTTPS "https"
#define PROTOCOLS_MAIL "smtp,smtps"
#else
#define PROTOCOLS_OPTION CURLOPT_PROTOCOLS
#define PROTOCOLS_ANY ((long) (CURLPROTO_HTTP | CURLPROTO_HTTPS))
#define PROTOCOLS_HTTPS ((long) CURLPROTO_HTTPS)
#define PROTOCOLS_MAIL ((long) (CURLPROTO_SMTP | CURLPROTO_SMTPS))
#endif

/* libcurl 7.87 can leave a resolver's thread alone that outlives its request. */
#if LIBCURL_VERSION_NUM >= 0x075700
#define HAVE_QUICK_EXIT
#endif

/* libcurl 7.80 can end connections by their age, so that moved names are noticed. */
#if LIBCURL_VERSION_NUM >= 0x075000
#define HAVE_MAXLIFETIME
#endif

/* libcurl 7.80 tells when a request goes out. */
#if LIBCURL_VERSION_NUM >= 0x075000
#define HAVE_PREREQ
#endif

/* libcurl 7.84 gives any header of an answer. */
#if LIBCURL_VERSION_NUM >= 0x075400
#define HAVE_HEADERS
#endif

/*
 * libcurl from 7.83 until 8.2 keeps a pointer to the last header of an answer, and
 * follows it, after that is freed, where a handle's next answer begins with a line
 * that continues a header: any receiver could end the worker, and all sessions.
 */
#if LIBCURL_VERSION_NUM >= 0x075300 && LIBCURL_VERSION_NUM < 0x080200
#define NEEDS_FRESH_HANDLES
#endif

/* libcurl from 7.88 until 8.4 must be called to try the next address of a name. */
#if LIBCURL_VERSION_NUM >= 0x075800 && LIBCURL_VERSION_NUM < 0x080400
#define NEEDS_CALL_TO_GO_ON
#endif

/* libcurl 7.88 tells what a name is by IDNA. */
#if LIBCURL_VERSION_NUM >= 0x075800
#define HAVE_PUNYCODE
#endif

/* libcurl 8.20 has threads that outlive their requests, and joins them at the end. */
#if LIBCURL_VERSION_NUM >= 0x081400
#define HAVE_MULTI_QUICK_EXIT
#endif

#endif							/* WEBHOOK_COMPAT_CURL_H */
