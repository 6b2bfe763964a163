# webhook: transactional webhooks inside PostgreSQL

EXTENSION = webhook
MODULE_big = webhook
OBJS = \
	src/webhook.o src/settings.o src/shared.o src/catalog.o \
	src/criteria.o src/workflow.o src/action.o src/ddl.o \
	src/enqueue.o src/record.o src/move.o src/delivery.o \
	src/template.o src/payload.o src/payload_json.o src/payload_xml.o src/payload_form.o \
	src/signature.o src/request.o src/address.o src/sender.o \
	src/text.o src/queue.o src/lane.o src/turn.o src/worker.o src/launcher.o src/hooks.o
DATA = src/webhook--1.0.sql
PGFILEDESC = "webhook - transactional webhooks"

PG_CONFIG ?= pg_config
PKG_CONFIG ?= pkg-config
PG_CPPFLAGS = $(shell $(PKG_CONFIG) --cflags libcurl libxml-2.0 2>/dev/null)
SHLIB_LINK = $(shell $(PKG_CONFIG) --libs libcurl libxml-2.0 2>/dev/null)
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -Wno-sign-compare

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)
