/*-------------------------------------------------------------------------
 *
 * uninstall.h
 *	  DROP EXTENSION beside those who write.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_UNINSTALL_H
#define WEBHOOK_UNINSTALL_H

#include "nodes/parsenodes.h"

/* To be called before a command is carried out: it may drop the extension. */
extern void webhook_uninstall_begin(const DropStmt *command);

#endif							/* WEBHOOK_UNINSTALL_H */
