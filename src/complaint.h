/*-------------------------------------------------------------------------
 *
 * complaint.h
 *	  Errors of the worker's own in the server log, once each.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_COMPLAINT_H
#define WEBHOOK_COMPLAINT_H

/*
 * In place of EmitErrorReport, where what failed will be tried again: an error
 * that was reported in the last ten minutes is not reported again.
 */
extern void webhook_complaint_emit(void);

/*
 * For what is said otherwise: has nothing alike been reported in the last ten
 * minutes?  It counts as reported from now on.
 */
extern bool webhook_complaint_is_new(int sqlerrcode, const char *message);

#endif							/* WEBHOOK_COMPLAINT_H */
