/*-------------------------------------------------------------------------
 *
 * trouble.h
 *	  What keeps all requests from going out, and who is told of it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_TROUBLE_H
#define WEBHOOK_TROUBLE_H

#include "datatype/timestamp.h"

/* A request could not go out for a reason of ours; or one did. */
extern void webhook_trouble_note(const char *reason);
extern void webhook_trouble_end(void);

/* Has nothing gone out for a while? */
extern bool webhook_trouble_is_lasting(void);

/*
 * In a mail turn, with SPI connected: queue mails to the admins about what lasts,
 * once.  They are once the turn has committed.
 */
extern void webhook_trouble_tell(void);
extern void webhook_trouble_commit(void);

#endif							/* WEBHOOK_TROUBLE_H */
