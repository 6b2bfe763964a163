/*-------------------------------------------------------------------------
 *
 * text.h
 *	  What strangers sent, made into text that the database can hold.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_TEXT_H
#define WEBHOOK_TEXT_H

/*
 * Bytes that should be UTF-8 as text in the server's encoding, palloc'd.
 * NULs and what is no UTF-8 become U+FFFD, what the server's encoding can't
 * hold becomes a question mark; so it never fails but for lack of memory.
 * A character that the end of the bytes cuts is left out.  In a database
 * whose encoding isn't UTF-8 it needs a transaction.
 */
extern char *webhook_text_from_bytes(const char *bytes, size_t len);

/*
 * Overwrite a secret with asterisks wherever it is in the bytes, and what the
 * end of the bytes has left of it.  One of less than four bytes is in much by
 * chance, and is left.
 */
extern void webhook_text_hide(char *bytes, size_t len, const char *secret);

#endif							/* WEBHOOK_TEXT_H */
