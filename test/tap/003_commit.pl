# Sent if and only if committed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Test::More;
use WebhookTest;

my $node = start_cluster('commit');
my $receiver = start_receiver();
my $url = $receiver->url('/event');

$node->safe_psql('postgres', qq{
	CREATE TABLE event (id int PRIMARY KEY);
	SELECT webhook.create_workflow('events', 'event', 'create');
	SELECT webhook.create_action('events', 'send', '$url', parameters => '{"id": "\${id}"}')});

# What was sent, by the id in the body.  The result of a delivery may be lost in
# a crash, and the delivery be sent again: under the same webhook-id.
sub sent
{
	my %sent = map { $_->{webhook_id} => $_->{body} =~ /([0-9]+)/ } $receiver->requests('/event');

	return join ' ', sort { $a <=> $b } values %sent;
}

$node->safe_psql('postgres', q{
	BEGIN;
	INSERT INTO event VALUES (1);
	ROLLBACK;
	BEGIN;
	INSERT INTO event VALUES (2);
	SAVEPOINT s;
	INSERT INTO event VALUES (3);
	ROLLBACK TO s;
	INSERT INTO event VALUES (4);
	COMMIT;
	DO $$
	BEGIN
		INSERT INTO event VALUES (5);
		RAISE EXCEPTION 'no';
	EXCEPTION WHEN raise_exception THEN
		INSERT INTO event VALUES (6);
	END $$});
ok(wait_for_delivery($node), 'delivered');
is(sent(), '2 4 6', 'what was rolled back is not sent');

# Two phases.
$node->safe_psql('postgres', q{BEGIN; INSERT INTO event VALUES (10); PREPARE TRANSACTION 'ten'});
$node->safe_psql('postgres', q{BEGIN; INSERT INTO event VALUES (11); PREPARE TRANSACTION 'eleven'});
$node->safe_psql('postgres', 'INSERT INTO event VALUES (12)');
ok(wait_for_delivery($node), 'delivered');
is(sent(), '2 4 6 12', 'what is only prepared is not sent');
$node->safe_psql('postgres', q{ROLLBACK PREPARED 'eleven'});
$node->safe_psql('postgres', q{COMMIT PREPARED 'ten'});
ok($receiver->wait_for(5), 'what was prepared is sent once it is committed');
ok(wait_for_delivery($node), 'delivered');
is(sent(), '2 4 6 10 12', 'and only if');

# A crash before the commit.
my ($in, $out, $err) = ('', '', '');
my $writer = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') ], '<', \$in, '>', \$out, '2>', \$err);
$in = "BEGIN; INSERT INTO event VALUES (20); SELECT pg_backend_pid();\n";
$writer->pump until $out =~ /^([0-9]+)\n/;
$node->stop('immediate');
$writer->kill_kill;
$node->start;
$node->safe_psql('postgres', 'INSERT INTO event VALUES (21)');
ok(wait_for_delivery($node), 'after a crash deliveries go on');
is(sent(), '2 4 6 10 12 21', 'what a crash rolled back is not sent');

# A crash right after it: the worker is off, so nothing can have been sent.
$node->append_conf('postgresql.conf', 'webhook.enabled = off');
$node->reload;
wait_for_sql($node, 'SHOW webhook.enabled', 'off');
$node->safe_psql('postgres', 'INSERT INTO event SELECT generate_series(30, 39)');
$node->stop('immediate');
$node->append_conf('postgresql.conf', 'webhook.enabled = on');
$node->start;
ok(wait_for_delivery($node), 'what was committed before a crash is sent');
is(sent(), '2 4 6 10 12 21 ' . join(' ', 30 .. 39), 'each once');

# What is committed after its action was dropped does not wait for a survey.
my $late = $node->background_psql('postgres');
$late->query_safe(q{SELECT webhook.create_action('events', 'late', 'https://example.com/')});
$late->query_safe('BEGIN; INSERT INTO event VALUES (1001)');
$node->safe_psql('postgres', q{SELECT webhook.drop_action(action_id) FROM webhook.action WHERE title = 'late'});
ok(wait_for_delivery($node), 'an action is dropped while an event is being written');
$late->query_safe('COMMIT');
$late->quit;
my $committed_at = time;
ok(wait_for_sql($node, q{SELECT error FROM webhook.webhook_log WHERE record_id = '1001' AND status = 'Failed'}, 'action was dropped'), 'its delivery fails');
cmp_ok(time - $committed_at, '<', 15, 'soon');

$receiver->stop;
$node->stop;
done_testing();
