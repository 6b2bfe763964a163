# webhook: transactional webhooks inside PostgreSQL
#
#	make, make install, make installcheck	as of every PostgreSQL extension
#	make demo, test, bench, torture, soak, fuzz, doc	on private clusters; they install what is missing
#	make matrix, deb	in chroots of the Debian releases that have PostgreSQL 15, 17 and 18

# The source tree; VPATH names it where the build has a directory of its own.
here := $(or $(VPATH),.)

EXTENSION = webhook
MODULE_big = webhook
OBJS = $(patsubst $(here)/%.c,%.o,$(sort $(wildcard $(here)/src/*.c)))
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
