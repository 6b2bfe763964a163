/*-------------------------------------------------------------------------
 *
 * connecting.c
 *	  Transfers that are being connected, from address to address.
 *
 * libcurl goes through the addresses of a name, and gives each of them half of
 * what is left of the time.  But from 7.88 until 8.4, once it has given one up, it
 * tries the next one when it is called the next time; and who calls it by its
 * sockets and its timer does so when all of the time is over, since there is
 * no socket yet.  So a receiver whose first address is dead was never reached at
 * the second.  Here it is called.
 *
 * Its functions run inside of curl, but for the last: no errors, no palloc.
 *
 * Runs in workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "connecting.h"

static int	n_connecting = 0;

/* Those that curl is to be called for. */
static dlist_head waiting = DLIST_STATIC_INIT(waiting);

static void
stop_waiting(WebhookTransfer *t)
{
	if (t->is_waiting)
		dlist_delete(&t->node);
	t->is_waiting = false;
}

void
webhook_connecting_begin(WebhookTransfer *t)
{
	if (!t->is_connecting)
		n_connecting++;
	t->is_connecting = true;
}

void
webhook_connecting_gave_up(WebhookTransfer *t)
{
#ifdef NEEDS_CALL_TO_GO_ON
	if (t->is_connecting && !t->is_waiting)
	{
		t->is_waiting = true;
		dlist_push_tail(&waiting, &t->node);
	}
#endif
}

void
webhook_connecting_left(CURL *easy)
{
	WebhookTransfer *t = NULL;

	if (n_connecting == 0)
		return;					/* as for each request on a connection that is kept */
	(void) curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &t);
	if (t != NULL)
		webhook_connecting_gave_up(t);
}

void
webhook_connecting_end(WebhookTransfer *t)
{
	stop_waiting(t);
	if (t->is_connecting)
		n_connecting--;
	t->is_connecting = false;
}

/* Only by the end of a pause can curl be told to look at one transfer. */
void
webhook_connecting_go_on(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &waiting)
	{
		WebhookTransfer *t = dlist_container(WebhookTransfer, node, iter.cur);

		stop_waiting(t);
		(void) curl_easy_pause(t->easy, CURLPAUSE_SEND);
		(void) curl_easy_pause(t->easy, CURLPAUSE_CONT);
	}
}
