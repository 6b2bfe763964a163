/*-------------------------------------------------------------------------
 *
 * header.h
 *	  Headers of requests, as an action has them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_HEADER_H
#define WEBHOOK_HEADER_H

#include "nodes/pg_list.h"

/*
 * Compile the headers of an action (JSON text, or NULL).  Raises an error with
 * a hint for a name or value that can't be right.
 */
extern void webhook_header_parse(const char *headers, List **names,
								 List **templates);

/* Must it not be in a header's value?  (RFC 9110, section 5.5) */
extern bool webhook_header_is_control(unsigned char c);

#endif							/* WEBHOOK_HEADER_H */
