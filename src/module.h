/*-------------------------------------------------------------------------
 *
 * module.h
 *	  Which tables can be modules, and for whom.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_MODULE_H
#define WEBHOOK_MODULE_H

#include "nodes/bitmapset.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"

/*
 * Lock and open a table as the module of a workflow that belongs to owner.
 * Raises ERRCODE_INSUFFICIENT_PRIVILEGE where that role lacks TRIGGER or
 * SELECT, ERRCODE_WRONG_OBJECT_TYPE where it is no ordinary or partitioned
 * table of a user's.
 */
extern Relation webhook_module_open(Oid module, Oid owner, LOCKMODE lockmode);

/*
 * The columns of the primary key, offset by
 * FirstLowInvalidHeapAttributeNumber; NULL: there is none.
 */
extern Bitmapset *webhook_module_key(Relation module);

#endif							/* WEBHOOK_MODULE_H */
