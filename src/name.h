/*-------------------------------------------------------------------------
 *
 * name.h
 *	  Names of objects as they are written in SQL that is made here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_NAME_H
#define WEBHOOK_NAME_H

#include "utils/relcache.h"

/* schema.name */
extern char *webhook_name_relation(Relation rel);

/* OPERATOR(schema.name) */
extern char *webhook_name_operator(Oid oid);

#endif							/* WEBHOOK_NAME_H */
