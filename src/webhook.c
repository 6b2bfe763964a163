/*-------------------------------------------------------------------------
 *
 * webhook.c
 *	  Front door of the library.
 *
 * Runs in the postmaster, if the library is in shared_preload_libraries, else
 * in the session that first calls one of its functions: such a session
 * configures and queues all the same, but there is nobody to send.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "batch.h"
#include "commit.h"
#include "fmgr.h"
#include "hooks.h"
#include "launcher.h"
#include "settings.h"
#include "shared.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	webhook_settings_init();
	webhook_shared_init();
	webhook_commit_init();
	webhook_batch_init();
	webhook_hooks_init();
	webhook_launcher_init();
}
