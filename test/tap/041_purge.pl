# What webhook.log_retention takes away, and what it leaves: straight from the
# tables, and by statements where somebody has changed them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Test::More;
use WebhookTest;

my $node = start_cluster('purge', conf => q{
webhook.log_retention = 0
webhook.retry_schedule = '1h, 2h, 4h'
});
my $receiver = start_receiver(terse => 1);
my $ok = $receiver->url('/ok');
my $broken = $receiver->url('/status/500');

sub sql { return $node->safe_psql('postgres', shift) }

sql(qq{CREATE TABLE event (id int PRIMARY KEY, kind text);
	SELECT webhook.create_workflow('well', 'event', 'create', 'kind = ''well''');
	SELECT webhook.create_action('well', 'send', '$ok');
	SELECT webhook.create_workflow('ill', 'event', 'create', 'kind = ''ill''');
	SELECT webhook.create_action('ill', 'send', '$broken')});

# The log_ids of what is there, by table.
sub left
{
	return sql(q{SELECT coalesce(string_agg(log_id::text, ' ' ORDER BY log_id), 'nothing') FROM webhook.webhook_log}) . ' / '
		. sql(q{SELECT coalesce(string_agg(log_id::text, ' ' ORDER BY log_id), 'nothing') FROM webhook.webhook_attempt});
}

sub purge_all
{
	my ($way) = @_;

	# 1 to 300 went well, 301 waits for a retry, 302 went well.
	sql(q{TRUNCATE webhook.webhook_log, webhook.webhook_attempt RESTART IDENTITY; TRUNCATE event;
		INSERT INTO event SELECT i, CASE i WHEN 301 THEN 'ill' ELSE 'well' END FROM generate_series(1, 310) i ORDER BY i});
	ok(wait_for_sql($node, 'SELECT count(*) FROM webhook.webhook_log WHERE attempts = 1 AND http_status IS NOT NULL', '310'), "$way: delivered");

	# All are old but the last five; the attempts of one of them outlived it.
	sql(q{UPDATE webhook.webhook_log SET queued_at = queued_at - interval '9 days', completed_at = completed_at - interval '9 days'
			WHERE log_id <= 305;
		UPDATE webhook.webhook_attempt SET started_at = started_at - interval '9 days' WHERE log_id = 100;
		DELETE FROM webhook.webhook_log WHERE log_id IN (100, 200)});

	my $holder = $node->background_psql('postgres');
	$holder->query_safe('BEGIN; SELECT FROM webhook.webhook_log WHERE log_id = 7 FOR KEY SHARE');
	set_conf($node, q{webhook.log_retention = '7 days'});
	ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE log_id <= 305}, '2'), "$way: what is old goes at once");
	is(left(), '7 301 306 307 308 309 310 / 7 200 301 306 307 308 309 310',
		"$way: what is locked, unfinished or young stays with its attempts, and so does a young one whose delivery is gone");
	is(sql(q{SELECT retry_at > now() FROM webhook.webhook_log WHERE log_id = 301}), 't', "$way: the retry is still to come");
	$holder->query_safe('ROLLBACK');
	$holder->quit;
	set_conf($node, q{webhook.log_retention = '8 days'});
	ok(wait_for_sql($node, q{SELECT string_agg(log_id::text, ' ' ORDER BY log_id) FROM webhook.webhook_log}, '301 306 307 308 309 310'),
		"$way: what was locked goes once it is free");
	is(sql(q{SELECT count(*) FROM webhook.webhook_attempt WHERE log_id = 7}), '0', "$way: and its attempts");
	set_conf($node, 'webhook.log_retention = 0');
	return;
}

purge_all('directly');

# A trigger of somebody's sees every row that goes.
sql(q{CREATE TABLE gone (log_id bigint);
	CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.gone VALUES (OLD.log_id); RETURN OLD; END$$;
	CREATE TRIGGER note BEFORE DELETE ON webhook.webhook_log FOR EACH ROW EXECUTE FUNCTION note()});
purge_all('by statement');
is(sql('SELECT count(*) FROM gone WHERE log_id NOT IN (100, 200)'), '302', 'the trigger has seen them');
sql('DROP TABLE gone');
my $blocked = 'SELECT last_error FROM webhook.stat_worker';
set_conf($node, q{webhook.log_retention = '6 days'});
sql(q{UPDATE webhook.webhook_log SET queued_at = queued_at - interval '9 days', completed_at = completed_at - interval '9 days'
	WHERE log_id > 305});
set_conf($node, q{webhook.log_retention = '5 days'});
ok(wait_for_sql($node, $blocked, 'relation "public.gone" does not exist'), 'a trigger that fails is told of');
sql(q{TRUNCATE event; INSERT INTO event SELECT i, 'well' FROM generate_series(1, 50) i});
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE log_id > 310 AND status = 'Success'}, '50'), 'and holds up nothing but the purge');
sql('DROP TRIGGER note ON webhook.webhook_log');

# The purge goes on by itself as rows grow old.
set_conf($node, q{webhook.log_retention = '1 s'});
ok(wait_for_sql($node, q{SELECT string_agg(log_id::text, ' ') FROM webhook.webhook_log}, '301'), 'a shorter retention is heeded at once');
sql(q{TRUNCATE event; INSERT INTO event SELECT i, 'well' FROM generate_series(1, 50) i});
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE log_id > 360}, '0'), 'what ended a second ago goes, too');
is($receiver->count, 310 * 2 + 2 * 50, 'and nothing was sent again');

$receiver->stop;
$node->stop;
done_testing();
