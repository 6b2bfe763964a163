-- What of the extension has no description: none of it may be.
SELECT pg_catalog.pg_describe_object(o.classid, o.objid, o.objsubid)
FROM (
	SELECT d.classid, d.objid, 0 AS objsubid
	FROM pg_catalog.pg_depend d
	WHERE d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e'
		AND d.refobjid = (SELECT e.oid FROM pg_catalog.pg_extension e WHERE e.extname = 'webhook')
		-- A table's own sequences are its columns' business.
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE d.classid = 'pg_catalog.pg_class'::regclass AND c.oid = d.objid AND c.relkind = 'S')
	UNION ALL
	SELECT 'pg_catalog.pg_class'::regclass, a.attrelid, a.attnum
	FROM pg_catalog.pg_class c
	JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
	WHERE c.relnamespace = 'webhook'::regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped
		AND coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), '') NOT LIKE 'internal: %'
) o
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_description t
	WHERE t.classoid = o.classid AND t.objoid = o.objid AND t.objsubid = o.objsubid AND t.description <> '')
ORDER BY 1;
