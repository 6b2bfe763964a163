# webhook: transactional webhooks inside PostgreSQL
#
#	make, make install, make installcheck	as of every PostgreSQL extension
#	make demo, test, bench, torture, soak, fuzz, doc	on private clusters; they install what is missing
#	make matrix, deb	in chroots of the Debian releases that have PostgreSQL 15, 17 and 18

# The source tree; VPATH names it where the build has a directory of its own.
here := $(or $(VPATH),.)

EXTENSION = webhook
MODULE_big = webhook
OBJS = \
	src/webhook.o \
	src/settings.o \
	src/duration.o \
	src/shared.o \
	src/slot.o \
	src/news.o \
	src/launch.o \
	src/shared_action.o \
	src/commit.o \
	src/catalog.o \
	src/statement.o \
	src/module.o \
	src/owner.o \
	src/criteria.o \
	src/triggers.o \
	src/workflow.o \
	src/workflow_table.o \
	src/action.o \
	src/action_table.o \
	src/ddl.o \
	src/column_change.o \
	src/enqueue.o \
	src/event.o \
	src/batch.o \
	src/seen.o \
	src/schedule.o \
	src/run.o \
	src/runner.o \
	src/gate.o \
	src/guard.o \
	src/subtransaction.o \
	src/expression.o \
	src/name.o \
	src/path.o \
	src/wanted.o \
	src/computed.o \
	src/record.o \
	src/record_source.o \
	src/move.o \
	src/export.o \
	src/document.o \
	src/import.o \
	src/delivery.o \
	src/recompute.o \
	src/log_table.o \
	src/log_write.o \
	src/lookup.o \
	src/template.o \
	src/payload.o \
	src/payload_json.o \
	src/payload_xml.o \
	src/payload_form.o \
	src/signature.o \
	src/url.o \
	src/header.o \
	src/request.o \
	src/address.o \
	src/sender.o \
	src/network.o \
	src/transfer.o \
	src/connecting.o \
	src/watch.o \
	src/smtp.o \
	src/dialog.o \
	src/mail.o \
	src/mail_note.o \
	src/mail_digest.o \
	src/mail_text.o \
	src/resolver.o \
	src/answer.o \
	src/text.o \
	src/claim.o \
	src/result.o \
	src/dispatched.o \
	src/queue.o \
	src/flight.o \
	src/lane.o \
	src/places.o \
	src/origin.o \
	src/settle.o \
	src/complaint.o \
	src/stats.o \
	src/stats_store.o \
	src/durable.o \
	src/purge_step.o \
	src/purge.o \
	src/survey.o \
	src/share.o \
	src/absence.o \
	src/recovery.o \
	src/transaction.o \
	src/trouble.o \
	src/turn.o \
	src/worker.o \
	src/process.o \
	src/launcher.o \
	src/progress.o \
	src/stat_action.o \
	src/stat_worker.o \
	src/hooks.o
# make fuzz builds a library of its own, with its entry point.
OBJS += $(FUZZ_OBJS)
DATA = $(patsubst $(here)/%,%,$(wildcard $(here)/src/webhook--*.sql))
PGFILEDESC = "webhook - transactional webhooks"

# Tests.  installcheck starts a private instance of the installed PostgreSQL,
# because the library must be preloaded and the worker be switched off; PGHOST
# or PGPORT names a running server with the settings of test/regress.conf.
REGRESS = $(sort $(basename $(notdir $(wildcard $(here)/sql/*.sql))))
ISOLATION = $(sort $(basename $(notdir $(wildcard $(here)/test/isolation/specs/*.spec))))
ISOLATION_OPTS = --inputdir=$(here)/test/isolation --load-extension=webhook
ifeq ($(PGHOST)$(PGPORT),)
REGRESS_OPTS += --temp-instance=tmp_check_regress --temp-config=$(here)/test/regress.conf
ISOLATION_OPTS += --temp-instance=tmp_check_iso --temp-config=$(here)/test/regress.conf
endif
ENCODING = UTF8
NO_LOCALE = 1
TAP_TESTS = 1
PROVE_TESTS = test/tap/*.pl
PROVE_FLAGS += -I $(here)/test/lib
EXTRA_CLEAN = tmp_check tmp_check_regress tmp_check_iso output_iso

PG_CONFIG ?= pg_config
PKG_CONFIG ?= pkg-config

# demo, test and bench install PostgreSQL where there is none, and call make
# again: for them its makefiles are not needed yet.
own_goals = demo test bench torture soak fuzz doc matrix deb
ifneq ($(filter-out $(own_goals),$(or $(MAKECMDGOALS),all)),)

PG_CPPFLAGS := $(shell $(PKG_CONFIG) --cflags libcurl libxml-2.0)
PG_CPPFLAGS += -DWEBHOOK_VERSION='"$(shell sed -n "s/^default_version = '\(.*\)'/\1/p" $(here)/webhook.control)"'
SHLIB_LINK := $(shell $(PKG_CONFIG) --libs libcurl libxml-2.0)
# Where getaddrinfo_a is in a library of its own: glibc before 2.34.
SHLIB_LINK += $(shell echo 'int main(void) { return 0; }' | $(CC) -x c - -lanl -o /dev/null 2>/dev/null && echo -lanl)
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -Wno-sign-compare

PGXS := $(shell $(PG_CONFIG) --pgxs)
ifeq ($(and $(wildcard $(PGXS)),$(wildcard $(shell $(PG_CONFIG) --includedir-server)/postgres.h)),)
$(error $(PG_CONFIG) knows no server to build for: install postgresql-server-dev-NN, or set PG_CONFIG)
endif
include $(PGXS)

$(OBJS) $(OBJS:.o=.bc): $(wildcard $(here)/src/*.h)
src/catalog.o src/catalog.bc src/request.o src/request.bc: $(here)/webhook.control
$(if $(VPATH),$(shell mkdir -p src))

endif

.PHONY: $(own_goals)
export PG_CONFIG MAKE
test:
	@$(here)/test/run
demo:
	@$(here)/test/demo/run
soak:
	@$(here)/test/torture/soak
torture:
	@$(here)/test/torture/run
fuzz:
	@$(here)/test/fuzz/run
bench:
	@$(here)/test/bench/run
doc:
	@$(here)/test/doc/run
matrix:
	@$(here)/test/matrix/run
deb:
	@$(here)/test/packaging/run
