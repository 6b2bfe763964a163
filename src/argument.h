/*-------------------------------------------------------------------------
 *
 * argument.h
 *	  Arguments of functions that are called from SQL.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_ARGUMENT_H
#define WEBHOOK_ARGUMENT_H

#include "fmgr.h"

/*
 * Raise ERRCODE_NULL_VALUE_NOT_ALLOWED, with the argument's name, if it is null:
 * a function that does something does not silently do nothing.
 */
extern void webhook_argument_require(FunctionCallInfo fcinfo, int arg, const char *name);

#endif							/* WEBHOOK_ARGUMENT_H */
