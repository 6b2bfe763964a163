# The four content types, each read by a parser that is not ours.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use JSON::PP;
use Test::More;
use WebhookTest;

my $node = start_cluster('payload');
my $receiver = start_receiver();
my $reader = "$FindBin::RealBin/../lib/read_body.py";

$node->safe_psql('postgres', q{
	CREATE SCHEMA "Odd schema";
	CREATE DATABASE latin1 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0});
for my $database ('postgres', 'latin1')
{
	$node->safe_psql($database, 'CREATE EXTENSION IF NOT EXISTS webhook');
	$node->safe_psql($database, q{
		CREATE TABLE sample (
			id bigint PRIMARY KEY, name text, price numeric, ratio float8, active boolean, nothing text,
			at timestamptz, plain timestamp, day date, data jsonb, raw json, tags text[], matrix int[][],
			bin bytea, span interval);
		SELECT webhook.create_workflow('samples', 'sample', 'create')});
}

my $id = 9007199254740993;

# Send one sample; returns what a parser of the type reads in the body, and the
# request itself.
sub send_sample
{
	my ($database, $type, $parameters, $values) = @_;
	my $before = () = $receiver->requests;
	my $url = $receiver->url("/$type");

	$id++;
	$parameters = defined $parameters ? "'$parameters'" : 'NULL';
	$values = join ', ', map { "$_ = $values->{$_}" } sort keys %{ $values || {} };
	$node->safe_psql($database, qq{
		SET client_encoding = 'UTF8';
		SELECT webhook.drop_action(action_id) FROM webhook.action;
		SELECT webhook.create_action('samples', 'send', '$url', content_type => '$type', parameters => $parameters);
		BEGIN;
		SELECT webhook.enable_workflow('samples', false);
		INSERT INTO sample VALUES ($id, 'Müller & Söhne <"GmbH">', 12345678901234567890.123456789000, 0.1, true, NULL,
			'2026-03-04 05:06:07.089+00', '2026-03-04 05:06:07', '2026-03-04', '{"b": [1, {"c": null}], "a": 1.50}',
			'{"z": 1, "a":  "x"}', '{one,"two, three",NULL}', '{{1,2},{3,4}}', '\\xdeadbeef', '1 day 02:00');
		} . ($values ? "UPDATE sample SET $values WHERE id = $id;" : '') . qq{
		SELECT webhook.test(action_id, '$id') FROM webhook.action;
		SELECT webhook.enable_workflow('samples', true);
		COMMIT});
	$receiver->wait_for($before + 1) or return;
	my $request = ($receiver->requests)[-1];
	my $kind = lc $type;
	my $body;

	IPC::Run::run([ 'python3', $reader, $kind ], '<', \$request->{bytes}, '>', \$body)
	  or fail("$type: a body that does not parse: $request->{body}");
	return (JSON::PP->new->utf8->allow_nonref->decode($body), $request);
}

for my $database ('postgres', 'latin1')
{
	# The whole record
	my ($body, $request) = send_sample($database, 'JSON');
	is($receiver->header($request, 'Content-Type'), 'application/json', "$database: JSON's header");
	is_deeply($body, {
			id => "n:$id", name => name(), price => 'n:12345678901234567890.123456789000',
			ratio => 'n:0.1', active => JSON::PP::true, nothing => undef,
			at => '2026-03-04T05:06:07.089+00:00', plain => '2026-03-04T05:06:07', day => '2026-03-04',
			data => { a => 'n:1.50', b => [ 'n:1', { c => undef } ] }, raw => { z => 'n:1', a => 'x' },
			tags => [ 'one', 'two, three', undef ], matrix => [ [ 'n:1', 'n:2' ], [ 'n:3', 'n:4' ] ],
			bin => '\\xdeadbeef', span => $body->{span} },
		"$database: the whole record as JSON");

	# Names that nest
	($body, $request) = send_sample($database, 'JSON',
		'{"client.name": "${name}", "client.active": "${active}", "lines.0.sku": "A", "lines.1.sku": "${id}",
		  "a\\\\.b": 1, "text": "${id}/${active}/${nothing}/$${id}", "constant": {"x": [1.10, null]}, "none": "${nothing}"}');
	is_deeply($body, {
			client => { name => name(), active => JSON::PP::true }, lines => [ { sku => 'A' }, { sku => "n:$id" } ],
			'a.b' => 'n:1', text => "$id/true//\${id}", constant => { x => [ 'n:1.10', undef ] }, none => undef },
		"$database: nested JSON");

	($body, $request) = send_sample($database, 'JSONARRAY', '{"0.name": "${name}", "1.name": "b"}');
	is($receiver->header($request, 'Content-Type'), 'application/json', "$database: JSONARRAY's header");
	is_deeply($body, [ { name => name() }, { name => 'b' } ], "$database: JSONARRAY with numbers");
	($body) = send_sample($database, 'JSONARRAY', '{"name": "${name}"}');
	is_deeply($body, [ { name => name() } ], "$database: JSONARRAY without");

	($body, $request) = send_sample($database, 'XML',
		'{"@id": "${id}", "client.name": "${name}", "client.@type": "a&b", "lines.0.sku": "A", "lines.1.sku": "B",
		  "active": "${active}", "none": "${nothing}", "price": "${price}"}');
	is($receiver->header($request, 'Content-Type'), 'application/xml; charset=utf-8', "$database: XML's header");
	is_deeply($body, [ 'sample', { id => $id }, undef, [
				[ 'client', { type => 'a&b' }, undef, [ [ 'name', {}, name(), [] ] ] ],
				[ 'lines', {}, undef, [ [ 'sku', {}, 'A', [] ] ] ],
				[ 'lines', {}, undef, [ [ 'sku', {}, 'B', [] ] ] ],
				[ 'active', {}, 'true', [] ], [ 'none', {}, undef, [] ],
				[ 'price', {}, '12345678901234567890.123456789000', [] ] ] ],
		"$database: XML");

	($body, $request) = send_sample($database, 'FORM',
		'{"client.name": "${name}", "lines.0.sku": "A b+c", "lines.1.sku": "B&=", "active": "${active}", "none": "${nothing}",
		  "price": "${price}"}');
	is($receiver->header($request, 'Content-Type'), 'application/x-www-form-urlencoded', "$database: FORM's header");
	is_deeply($body, [
			[ 'client[name]', name() ], [ 'lines[0][sku]', 'A b+c' ], [ 'lines[1][sku]', 'B&=' ],
			[ 'active', 'true' ], [ 'none', '' ], [ 'price', '12345678901234567890.123456789000' ] ],
		"$database: FORM");

	# Names that only the fifth edition of XML 1.0 knows, and many parsers don't
	($body) = send_sample($database, 'XML', $database eq 'latin1' ? '{"Größe": 1, "price ¤": 2, "¾": 3, "@§": 4}' : '{"Größe": 1, "price €": 2, "😀": 3, "@№": 4}');
	is_deeply($body, [ 'sample', { _ => '4' }, undef, [ [ "Gr\x{f6}\x{df}e", {}, '1', [] ], [ 'price__', {}, '2', [] ], [ '_', {}, '3', [] ] ] ],
		"$database: names of XML as all parsers know them");

	# What XML can't carry
	($body) = send_sample($database, 'XML', '{"name": "${name}"}', { name => q{E'a\x01b\tc\x1f'} });
	is($body->[3][0][2], "a\x{fffd}b\tc\x{fffd}", "$database: control characters in XML");
	($body) = send_sample($database, 'JSON', '{"name": "${name}"}', { name => q{E'a\x01"\\\\\n'} });
	is($body->{name}, "a\x01\"\\\n", "$database: control characters in JSON");
	($body) = send_sample($database, 'FORM', '{"name": "${name}"}', { name => q{E'a\x01\n%20'} });
	is_deeply($body, [ [ 'name', "a\x01\n%20" ] ], "$database: control characters in FORM");
}

# The same in Perl's own characters.
sub name { return "M\x{fc}ller & S\x{f6}hne <\"GmbH\">" }

# PUT, headers, a URL with values in it, a partition's parent, names that need quotes
$node->safe_psql('postgres', q{
	CREATE TABLE "Odd schema"."Deal Item" ("Deal No" int, "Close Date" date, "a ""b""" text, PRIMARY KEY ("Deal No", "Close Date"))
		PARTITION BY RANGE ("Close Date");
	CREATE TABLE "Odd schema".y2026 PARTITION OF "Odd schema"."Deal Item" FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
	SELECT webhook.create_workflow('odd', '"Odd schema"."Deal Item"', 'create', '"Deal No" > 1');
	SELECT webhook.create_action('odd', 'send', '} . $receiver->url('/items/für/${"Deal No"}/${"Close Date"}?Größe=${"a ""b"""}&%41[]') . q{', 'PUT', 'XML',
		headers => '{"X-Event": "${webhook.operation} of ${webhook.record_id}", "Accept": "text/xml"}');
	INSERT INTO "Odd schema"."Deal Item" VALUES (1, '2026-05-05', 'x'), (2, '2026-05-05', 'ü')});
ok(wait_for_delivery($node), 'delivered');
my $request = ($receiver->requests('/items'))[-1];
is($request->{method}, 'PUT', 'PUT');
is($request->{path}, '/items/f%C3%BCr/2/2026-05-05?Gr%C3%B6%C3%9Fe=%C3%BC&%41[]', 'values in the URL, and letters beyond ASCII');
is($receiver->header($request, 'X-Event'), 'INSERT of (2,2026-05-05)', 'a header of the action');
is($receiver->header($request, 'Accept'), 'text/xml', 'another');
is($node->safe_psql('postgres', q{SELECT module FROM webhook.webhook_log WHERE record_id LIKE '(%'}),
	'"Odd schema"."Deal Item"', 'the module is the partitioned parent');

# Too large: fails before it is sent, for good
$node->append_conf('postgresql.conf', q{webhook.max_payload_size = '10kB'});
$node->reload;
my $before = $receiver->count;
$node->safe_psql('postgres', q{
	INSERT INTO sample (id, name) SELECT 1, repeat('x', 20000)});
ok(wait_for_sql($node, q{SELECT status = 'Failed' AND retry_at IS NULL FROM webhook.webhook_log WHERE record_id = '1'}),
	'too large: Failed for good');
like($node->safe_psql('postgres', q{SELECT error FROM webhook.webhook_log WHERE record_id = '1'}), qr/20[0-9]{3}/,
	'with an error that names the size');
is($receiver->count, $before, 'and nothing is sent');

# Records that nest as deep as they can, or would be said at a thousand times
# their length: each fails or is sent, for itself, and costs a worker nothing.
my ($url, $worker) = ($receiver->url('/deep'), worker_pid($node));
$node->safe_psql('postgres', qq{
	CREATE TABLE deep (id int PRIMARY KEY, j jsonb);
	SELECT webhook.create_workflow('deep', 'deep');
	SELECT webhook.create_action('deep', 'XML', '$url', content_type => 'XML'),
		webhook.create_action('deep', 'FORM', '$url', content_type => 'FORM'),
		webhook.create_action('deep', 'JSON', '$url', parameters => '{"a": "\${j}", "b": "\${j} \${j}"}');
	DO \$\$ BEGIN
		FOR d IN REVERSE 40 .. 1 LOOP
			BEGIN
				INSERT INTO deep VALUES (1, (repeat('[', d * 500) || repeat(']', d * 500))::jsonb);
				INSERT INTO deep VALUES (2, (repeat('{"a":', d * 400) || '1' || repeat('}', d * 400))::jsonb);
				EXIT;
			EXCEPTION WHEN statement_too_complex THEN NULL;
			END;
		END LOOP;
	END \$\$;
	INSERT INTO deep SELECT n, jsonb_build_object(repeat('k', 400000), (SELECT jsonb_agg(w.v) FROM (SELECT t.v FROM generate_series(1, 200000)) w))
		FROM (VALUES (3, '1'::jsonb), (4, '[]'), (5, '{}'), (6, '[[]]')) AS t (n, v)});
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE module = 'deep'::regclass AND retry_at IS NULL}, 18), 'all are done with');
is($node->safe_psql('postgres', q{
	SELECT count(*) FROM webhook.webhook_log WHERE module = 'deep'::regclass AND status = 'Failed'
		AND error ~ '^(stack depth limit exceeded|body .* exceeds webhook.max_payload_size|body exceeds webhook.max_payload_size)'})
	+ $node->safe_psql('postgres', q{SELECT count(*) FROM webhook.webhook_log WHERE module = 'deep'::regclass AND status = 'Success'}), 18, 'sent, or failed for what they are');
is(worker_pid($node), $worker, 'by the same worker');
my ($memory) = PostgreSQL::Test::Utils::slurp_file("/proc/$worker/status") =~ /VmHWM:\s+(\d+) kB/;
cmp_ok($memory, '<', 400_000, 'which has kept its memory');

# A type that can always be made into JSON, until somebody gives it a way to.
$node->safe_psql('postgres', qq{
	CREATE TYPE stage AS ENUM ('Open');
	CREATE TABLE staged (id int PRIMARY KEY, s stage);
	SELECT webhook.create_workflow('staged', 'staged');
	SELECT webhook.create_action('staged', 'send', '$url')});
my $session = $node->background_psql('postgres');
$session->query_safe(q{INSERT INTO staged VALUES (1, 'Open')});
$node->safe_psql('postgres', q{
	CREATE FUNCTION broken(stage) RETURNS json LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''broken''; END';
	CREATE CAST (stage AS json) WITH FUNCTION broken(stage)});
$session->query_safe(q{INSERT INTO staged VALUES (2, 'Open')});
$session->quit;
is($node->safe_psql('postgres', q{SELECT string_agg(concat_ws(' ', record_id, error), ', ' ORDER BY log_id) FROM webhook.webhook_log WHERE module = 'staged'::regclass}),
	'1, 2 the record could not be made into JSON: broken', 'a broken cast fails the delivery, not the writer');

# A record that is larger than what is claimed at once holds up none that come after
# it, and one that is too large for jsonb does not fail its writer.
$node->safe_psql('postgres', qq{
	CREATE TABLE large (id int PRIMARY KEY, content bytea);
	SELECT webhook.create_workflow('large', 'large');
	SELECT webhook.create_action('large', 'send', '$url', parameters => '{"id": "\${id}"}');
	INSERT INTO large VALUES (1, convert_to(repeat('x', 9000000), 'UTF8'))});
ok(wait_for_sql($node, q{SELECT status = 'Success' FROM webhook.webhook_log WHERE module = 'large'::regclass}), 'a large record');
$node->safe_psql('postgres', q{
	INSERT INTO large VALUES (2, convert_to(repeat('x', 140000000), 'UTF8')), (3, '')});
ok(wait_for_sql($node, q{SELECT string_agg(concat_ws(' ', record_id, status, split_part(error, ':', 1)), ', ' ORDER BY log_id) FROM webhook.webhook_log WHERE module = 'large'::regclass},
	'1 Success, 2 Failed the record could not be made into JSON, 3 Success'),
	'one too large for jsonb, and one that comes after them');

# However many are wanted, no more is claimed than a worker has room for.
$node->safe_psql('postgres', qq{
	SELECT webhook.create_action('large', 'in order', '$url', parameters => '{"id": "\${id}"}', ordered => true);
	CREATE TABLE sample_record AS SELECT jsonb_build_object('id', 1, 'content', repeat('x', 20000000)) AS record;
	INSERT INTO webhook.webhook_log (workflow_id, action_id, module, operation, record_id, record, ordered, retry_at, owner)
		SELECT workflow_id, action_id, 'large'::regclass, 'INSERT', i, record, true, now(), 'postgres'::regrole
		FROM webhook.action, sample_record, generate_series(1, 50) i WHERE title = 'in order'});
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log JOIN webhook.action USING (action_id) WHERE title = 'in order' AND status = 'Success'}, 50),
	'fifty large records in order');
is(worker_pid($node), $worker, 'by the same worker');
($memory) = PostgreSQL::Test::Utils::slurp_file("/proc/$worker/status") =~ /VmHWM:\s+(\d+) kB/;
cmp_ok($memory, '<', 600_000, 'a few at a time');

# Generated columns that are in no row are computed for it, and for the one before.
SKIP:
{
	skip 'virtual generated columns came with PostgreSQL 18', 3 if $node->safe_psql('postgres', 'SHOW server_version_num') < 180000;
	$node->safe_psql('postgres', qq{
		CREATE TABLE line (id int PRIMARY KEY, price numeric, quantity int,
			total numeric GENERATED ALWAYS AS (price * quantity) VIRTUAL, each numeric GENERATED ALWAYS AS (price / quantity));
		SELECT webhook.create_workflow('lines', 'line', condition => 'total > 10');
		SELECT webhook.create_action('lines', 'line', 'http://127.0.0.1:9/');
		INSERT INTO line VALUES (1, 2.50, 5), (2, 1, 1), (3, 20, 0);
		UPDATE line SET quantity = 10 WHERE id = 1});
	is($node->safe_psql('postgres', q{SELECT string_agg(concat_ws(' ', record_id, record->>'total', record->>'each', old_record->>'total', substring(error FROM 'division by zero')), ', ' ORDER BY log_id)
		FROM webhook.webhook_log WHERE module = 'line'::regclass}), '1 12.50 0.50000000000000000000, 1 25.00 0.25000000000000000000 12.50',
		'virtual generated columns');

	# Of a row that is older than a column as well.
	$node->safe_psql('postgres', q{
		ALTER TABLE line ADD rate int DEFAULT 3, ADD rated numeric GENERATED ALWAYS AS (price * rate);
		UPDATE line SET quantity = 20 WHERE id = 2});
	is($node->safe_psql('postgres', q{SELECT concat_ws(' ', record->>'rated', old_record->>'rate', old_record->>'rated')
		FROM webhook.webhook_log WHERE module = 'line'::regclass AND record_id = '2'}), '3 3 3', '... that are made of a default for rows of before');

	# So they are for what is computed, and for the criteria where a row moves.
	$node->safe_psql('postgres', q{
		CREATE TABLE part (id int, region text, price numeric, quantity int, total numeric GENERATED ALWAYS AS (price * quantity),
			each numeric GENERATED ALWAYS AS (price / quantity), PRIMARY KEY (id, region)) PARTITION BY LIST (region);
		CREATE TABLE part_a PARTITION OF part FOR VALUES IN ('a');
		CREATE TABLE part_b PARTITION OF part FOR VALUES IN ('b');
		SELECT webhook.create_workflow('parts', 'part', condition => 'total >= 0');
		SELECT webhook.create_action('parts', 'part', 'http://127.0.0.1:9/', parameters => '{"twice": "${= total * 2}", "before": "${= old.total}"}');
		INSERT INTO part VALUES (1, 'a', 2.50, 5);
		UPDATE part SET region = 'b', price = 3;
		INSERT INTO part VALUES (2, 'a', 20, 0)});
	is($node->safe_psql('postgres', q{SELECT string_agg(concat_ws(' ', operation, computed->>'= total * 2', computed->>'= old.total', substring(error FROM 'division by zero')), ', ' ORDER BY log_id)
		FROM webhook.webhook_log WHERE module = 'part'::regclass}), 'INSERT 25.00, UPDATE 30 12.50, INSERT division by zero',
		'in computed values, and in a row that moves');
}

$receiver->stop;
$node->stop;
done_testing();
