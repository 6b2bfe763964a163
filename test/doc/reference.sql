-- reference.sql
--	  doc/reference.md, from the comments in the catalog.  make doc writes it.
--
-- Left out is what is internal, as its comment says.

\pset format unaligned
\pset tuples_only on
SET search_path = pg_catalog;

-- A comment within a table of Markdown.
CREATE FUNCTION pg_temp.cell(text) RETURNS text LANGUAGE sql
RETURN replace(replace(replace($1, '|', '\|'), '<', '&lt;'), E'\n', ' ');

-- Arguments as one writes them: without the types of their defaults.
CREATE FUNCTION pg_temp.plain(text) RETURNS text LANGUAGE sql
RETURN replace(regexp_replace($1, '::[a-z ]+(\[\])?', '', 'g'), 'timestamp with time zone', 'timestamptz');

CREATE FUNCTION pg_temp.arguments(oid) RETURNS text LANGUAGE sql
RETURN pg_temp.plain(regexp_replace(pg_get_function_arguments($1), '(, )?OUT .*', ''));

CREATE FUNCTION pg_temp.result(oid) RETURNS text LANGUAGE sql
RETURN CASE pg_get_function_result($1) WHEN 'void' THEN ''
	ELSE ' RETURNS ' || pg_temp.plain(regexp_replace(pg_get_function_result($1), 'record$',
		'(' || replace(coalesce(substring(pg_get_function_arguments($1) FROM 'OUT .*'), ''), 'OUT ', '') || ')')) END;

CREATE FUNCTION pg_temp.kind(oid) RETURNS text LANGUAGE sql
RETURN regexp_replace(format_type($1, NULL), 'timestamp with time zone', 'timestamptz');

CREATE TEMP VIEW function AS
SELECT p.oid, p.proname::text AS name, p.proargnames, p.proargtypes, p.pronargs, p.pronargdefaults,
	obj_description(p.oid, 'pg_proc') AS comment
FROM pg_proc p
WHERE p.pronamespace = 'webhook'::regnamespace AND obj_description(p.oid, 'pg_proc') NOT LIKE 'internal: %';

-- Functions that are called with what a table's columns keep.
CREATE TEMP VIEW argument AS
SELECT f.name AS function, a.i, f.proargnames[a.i] AS name, pg_temp.kind(t.type) AS type,
	pg_temp.plain(pg_get_function_arg_default(f.oid, a.i::integer)) AS value,
	CASE f.proargnames[a.i] WHEN 'workflow' THEN 'name of the workflow that the action belongs to'
		ELSE coalesce(
			(SELECT col_description(c.attrelid, c.attnum) FROM pg_attribute c
				WHERE c.attrelid = k.relation AND c.attname = f.proargnames[a.i]),
			(SELECT col_description(c.attrelid, c.attnum) FROM pg_attribute c
				WHERE c.attrelid = 'webhook.action_secret'::regclass AND c.attname = f.proargnames[a.i])) END AS comment
FROM function f
JOIN (VALUES ('create_workflow', 'webhook.workflow'::regclass), ('create_action', 'webhook.action')) AS k (name, relation) USING (name)
CROSS JOIN LATERAL unnest(f.proargtypes) WITH ORDINALITY AS t (type, i)
CROSS JOIN LATERAL (SELECT t.i) AS a;

SELECT '# Reference

What there is in schema `webhook`, by the comments in the catalog (`\df+ webhook.*`, `\d+ webhook.webhook_log`). `make doc` writes
this page; a test compares it with the catalog. How it all plays together is told in [workflows](workflows.md) and
[operations](operations.md).

## Functions

| function | |
| --- | --- |';
SELECT format('| `%s` | %s |',
	f.name || CASE WHEN f.name ~ '^create_' THEN '(…)' WHEN f.name ~ '^alter_' THEN format('(%s, …)', f.proargnames[1])
		ELSE '(' || pg_temp.arguments(f.oid) || ')' END || pg_temp.result(f.oid),
	pg_temp.cell(f.comment))
FROM function f ORDER BY f.oid;

SELECT format(E'\n### %s\n\n| argument | type | default | |\n| --- | --- | --- | --- |\n', f.name)
	|| string_agg(format('| `%s` | %s | %s | %s |', a.name, a.type, coalesce('`' || a.value || '`', ''), pg_temp.cell(a.comment)), E'\n' ORDER BY a.i)
FROM function f JOIN argument a ON a.function = f.name
GROUP BY f.oid, f.name ORDER BY f.oid;

SELECT E'\n## Tables and views';
SELECT format(E'\n### %s\n\n%s: %s.\n\n| column | type | |\n| --- | --- | --- |\n', c.relname,
		CASE c.relkind WHEN 'v' THEN 'View' ELSE 'Table' END, obj_description(c.oid, 'pg_class'))
	|| string_agg(format('| `%s` | %s | %s |', a.attname, pg_temp.kind(a.atttypid),
		pg_temp.cell(col_description(c.oid, a.attnum))), E'\n' ORDER BY a.attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'webhook'::regnamespace AND c.relkind IN ('r', 'v')
	AND obj_description(c.oid, 'pg_class') NOT LIKE 'internal: %'
	AND col_description(c.oid, a.attnum) NOT LIKE 'internal: %'
GROUP BY c.oid, c.relname, c.relkind ORDER BY c.relkind, c.oid;

SELECT format(E'\n## Type %s\n\n%s: %s.', format_type(t.oid, NULL), string_agg('`' || e.enumlabel || '`', ', ' ORDER BY e.enumsortorder),
	obj_description(t.oid, 'pg_type'))
FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid
WHERE t.typnamespace = 'webhook'::regnamespace GROUP BY t.oid;

SELECT E'\n## Event triggers\n\n| event trigger | |\n| --- | --- |';
SELECT format('| `%s` | %s |', t.evtname, pg_temp.cell(obj_description(t.oid, 'pg_event_trigger')))
FROM pg_event_trigger t WHERE t.evtname LIKE 'webhook%' ORDER BY t.oid;

SELECT E'\n## Settings\n'
	|| CASE WHEN bool_and(s.context = 'sighup') THEN E'\nAll can be changed with a reload.\n' ELSE '' END
	|| E'\n| setting | default | |\n| --- | --- | --- |'
FROM pg_settings s WHERE s.name LIKE 'webhook.%';
SELECT format('| `%s` | %s | %s%s |', s.name,
	CASE WHEN s.boot_val = '' THEN 'empty'
		WHEN s.unit = 'ms' THEN s.boot_val::integer / 1000 || ' s'
		WHEN s.unit = 's' THEN s.boot_val::integer / 60 || ' min'
		WHEN s.unit = 'B' THEN pg_size_pretty(s.boot_val::bigint)
		ELSE '`' || s.boot_val || '`' END,
	pg_temp.cell(s.short_desc), coalesce(' ' || pg_temp.cell(s.extra_desc), '')
	|| CASE s.context WHEN 'sighup' THEN '' ELSE ' Needs a restart.' END)
FROM pg_settings s WHERE s.name LIKE 'webhook.%' ORDER BY s.name COLLATE "C";
