/*-------------------------------------------------------------------------
 *
 * lookup.h
 *	  A record found by the text of its key.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_LOOKUP_H
#define WEBHOOK_LOOKUP_H

#include "utils/jsonb.h"

/*
 * The record as it is now, read with the rights of role; *found_id is its key
 * as the log writes it.  Raises ERRCODE_NO_DATA_FOUND,
 * ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE where the module has no primary
 * key, and what reading the key's text raises.
 */
extern Jsonb *webhook_lookup_record(Oid module, Oid role, const char *record_id,
									const char **found_id);

#endif							/* WEBHOOK_LOOKUP_H */
