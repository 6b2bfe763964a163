# What a DBA does with deliveries: preview, test, retry, cancel, wait.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Test::More;
use Time::HiRes qw(time);
use WebhookTest;

my $node = start_cluster('control', conf => "webhook.timeout = '20s'");
my $receiver = start_receiver();

$node->safe_psql('postgres', q{
	CREATE TABLE deal (id int PRIMARY KEY, name text);
	INSERT INTO deal VALUES (1, 'one'), (2, 'two');
	SELECT webhook.create_workflow('deals', 'deal');
	SELECT webhook.create_action('deals', 'send', '} . $receiver->url('/deals/${id}') . q{',
		parameters => '{"name": "${name}", "op": "${webhook.operation}"}', username => 'crm', password => 'pass word',
		headers => '{"X-Name": "${name}"}')});

sub status
{
	my ($record) = @_;

	return "SELECT status, attempts, retry_at IS NULL FROM webhook.webhook_log WHERE record_id = '$record'";
}

# preview
my $preview = row($node, q{SELECT method, url, headers::jsonb, body FROM webhook.preview(1, '2')});
is($preview->{method}, 'POST', 'preview: method');
is($preview->{url}, $receiver->url('/deals/2'), 'preview: URL');
like($preview->{body}, qr/"name": ?"two"/, 'preview: body');
is($preview->{headers}{'X-Name'}, 'two', 'preview: headers');
is($preview->{headers}{'Content-Type'}, 'application/json', 'preview: Content-Type');
ok(defined $preview->{headers}{Authorization}, 'preview: Authorization is there');
unlike($preview->{headers}{Authorization}, qr/Y3JtO|pass word/, 'preview: masked');
is($node->safe_psql('postgres', 'SELECT count(*) FROM webhook.webhook_log'), '0', 'preview queues nothing');
my ($code, $out, $err) = $node->psql('postgres', q{SELECT webhook.preview(1, '3')});
isnt($code, 0, 'preview of a record that is not there');
like($err, qr/ERROR:.*3/, 'says so');

# test
my $log_id = $node->safe_psql('postgres', q{SELECT webhook.test(1, '2')});
ok(wait_for_delivery($node), 'wait');
my $log = row($node, "SELECT * FROM webhook.webhook_log WHERE log_id = $log_id");
is("$log->{status} $log->{operation} $log->{record_id}", 'Success MANUAL 2', 'test sends for real');
is(($receiver->requests)[0]{path}, '/deals/2', 'to the action\'s URL');

# retry: of what succeeded, of what failed; not of what is under way
$node->safe_psql('postgres', "SELECT webhook.retry($log_id)");
ok(wait_for_sql($node, status(2), 'Success|2|t'), 'retry of a delivery that succeeded');
is(join(' ', map { $_->{webhook_id} } $receiver->requests), join(' ', ($log->{webhook_id}) x 2), 'under the same webhook-id');

$node->safe_psql('postgres', q{SELECT webhook.alter_action(1, url => '} . $receiver->url('/status/500') . q{');
	UPDATE deal SET name = 'eins' WHERE id = 1});
for my $attempts (1 .. 4)
{
	my $done = $attempts == 4 ? 't' : 'f';
	ok(wait_for_sql($node, status(1), "Failed|$attempts|$done"), "attempt $attempts fails");
	turn_clock($node);
}
my $failed = $node->safe_psql('postgres', q{SELECT log_id FROM webhook.webhook_log WHERE record_id = '1'});
$node->safe_psql('postgres', "SELECT webhook.retry($failed)");
ok(wait_for_sql($node, status(1), 'Failed|5|f'), 'retry gives the whole schedule again; attempts goes on counting');
$node->safe_psql('postgres', q{SELECT webhook.alter_action(1, url => '} . $receiver->url('/deals') . q{')});
is($node->safe_psql('postgres', 'SELECT webhook.retry_failed()'), '1', 'retry_failed says how many');
ok(wait_for_sql($node, status(1), 'Success|6|t'), 'and sends them');
is($node->safe_psql('postgres', 'SELECT webhook.retry_failed(1, now() - interval \'1 hour\')'), '0', 'once only');
($code, $out, $err) = $node->psql('postgres', 'SELECT webhook.retry(999999)');
isnt($code, 0, 'retry of what does not exist is an error');

# cancel, of an action that is disabled: its deliveries wait
$node->safe_psql('postgres', q{
	BEGIN;
	INSERT INTO deal VALUES (10, 'ten'), (11, 'eleven');
	SELECT webhook.enable_action(1, false);
	COMMIT});
sleep 1;
is($node->safe_psql('postgres', status(10)), 'Queued|0|f', 'a disabled action\'s deliveries wait');
$node->safe_psql('postgres', q{SELECT webhook.cancel(log_id) FROM webhook.webhook_log WHERE record_id = '10'});
is($node->safe_psql('postgres', q{SELECT status, error, retry_at IS NULL, completed_at IS NOT NULL
	FROM webhook.webhook_log WHERE record_id = '10'}), 'Failed|canceled|t|t', 'cancel');
$node->safe_psql('postgres', 'SELECT webhook.enable_action(1)');
ok(wait_for_sql($node, status(11), 'Success|1|t'), 'enabled again: sent');
is($node->safe_psql('postgres', status(10)), 'Failed|0|t', 'what was canceled is not');
is($node->safe_psql('postgres', 'SELECT webhook.retry_failed()'), '0', 'nor by retry_failed');

# wait
$node->safe_psql('postgres', q{SELECT webhook.alter_action(1, url => '} . $receiver->url('/slow?ms=1500') . q{');
	INSERT INTO deal VALUES (20, 'twenty')});
my $begun = time;
is($node->safe_psql('postgres', q{SELECT webhook.wait('200 ms')}), 'f', 'wait gives up');
cmp_ok(time - $begun, '<', 1.2, 'in time');
is($node->safe_psql('postgres', q{SELECT webhook.wait('10 s')}), 't', 'or waits');
is($node->safe_psql('postgres', status(20)), 'Success|1|t', 'until it is done');

# A receiver that hangs takes its own share only
$node->safe_psql('postgres', q{
	SELECT webhook.alter_action(1, url => '} . $receiver->url('/hang') . q{');
	CREATE TABLE lead (id int PRIMARY KEY);
	SELECT webhook.create_workflow('leads', 'lead');
	SELECT webhook.create_action('leads', 'quick', '} . $receiver->url('/leads') . q{');
	INSERT INTO deal SELECT i, 'x' FROM generate_series(100, 399) i});
$begun = time;
$node->safe_psql('postgres', 'INSERT INTO lead VALUES (1)');
ok(wait_for_sql($node, q{SELECT count(*) = 1 FROM webhook.webhook_log WHERE module = 'lead'::regclass AND status = 'Success'}),
	'others are served while one receiver hangs');
cmp_ok(time - $begun, '<', 2, 'at once');
ok(wait_for_sql($node, q{SELECT max(in_flight) >= 50 FROM webhook.stat_worker}), 'soon it has its share in flight');
cmp_ok($node->safe_psql('postgres', q{SELECT max(in_flight) FROM webhook.stat_worker}), '<=', 51, 'and no more');

# Its queue is given up as the documentation says, whatever hangs
my ($recipe) = PostgreSQL::Test::Utils::slurp_file("$FindBin::RealBin/../../doc/operations.md") =~ /`(SELECT webhook\.cancel[^`]*)`/;
$recipe =~ s/action_id = 2/action_id = 1/;
$node->safe_psql('postgres', 'SELECT webhook.enable_action(1, false)');
$node->safe_psql('postgres', $recipe);
is($node->safe_psql('postgres', q{SELECT DISTINCT error FROM webhook.webhook_log WHERE record_id::int >= 100 AND status <> 'Dispatched'}), 'canceled', 'what waits is given up');
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Dispatched'}), '>', 10, 'but for what is under way');

$receiver->stop;
$node->stop;
done_testing();
