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
 * In a mail turn, with SPI connected: queue mails about what lasts to the admins
 * who have not been told.
 */
extern void webhook_trouble_tell(void);

#endif							/* WEBHOOK_TROUBLE_H */
