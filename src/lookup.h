/*-------------------------------------------------------------------------
 *
 * lookup.h
 *	  A record found by the text of its key.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_LOOKUP_H
#define WEBHOOK_LOOKUP_H

#include "access/htup.h"
#include "utils/relcache.h"

/*
 * The module's record as it is now, read with the rights of role.  Raises
 * ERRCODE_NO_DATA_FOUND, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE where the
 * module has no primary key, and what reading the key's text raises.
 */
extern HeapTuple webhook_lookup_record(Relation rel, Oid role,
									   const char *record_id);

#endif							/* WEBHOOK_LOOKUP_H */
