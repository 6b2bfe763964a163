/*-------------------------------------------------------------------------
 *
 * hooks.h
 *	  Commands that the workers must know of.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_HOOKS_H
#define WEBHOOK_HOOKS_H

/* Called by _PG_init; does nothing unless the library is preloaded. */
extern void webhook_hooks_init(void);

#endif							/* WEBHOOK_HOOKS_H */
