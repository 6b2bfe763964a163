# From a saved record to the receiver and back into the log: a deal is closed,
# an invoice is asked for.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use JSON::PP;
use MIME::Base64;
use Test::More;
use WebhookTest;

my $node = start_cluster('basic');
my $receiver = start_receiver(route => ['/invoices=/basic?user=crm&password=s3cret']);

$node->safe_psql('postgres', q{
	CREATE TABLE deal (
		deal_id bigint PRIMARY KEY,
		name text NOT NULL,
		stage text NOT NULL,
		amount numeric(12,2),
		close_date date);
	INSERT INTO deal VALUES
		(1, 'Warehouse „Nord“', 'Negotiation', 1234567.10, '2026-03-31'),
		(2, 'Fleet', 'Negotiation', 20, NULL);
	SELECT webhook.create_workflow('invoice', 'deal', 'save', $$stage = 'Closed Won'$$, 'change');
});
my $url = $receiver->url('/invoices');
$node->safe_psql('postgres', qq{
	SELECT webhook.create_action('invoice', 'ask for an invoice', '$url',
		parameters => '{"deal.id": "\${deal_id}", "deal.name": "\${name}", "deal.amount": "\${amount}",
						"reference": "Deal \${deal_id} of \${close_date}", "lines.0.text": "\${name}"}',
		username => 'crm', password => 's3cret')});

# Nothing happens to a deal that goes on.
$node->safe_psql('postgres', q{UPDATE deal SET stage = 'Proposal' WHERE deal_id = 2});
is($node->safe_psql('postgres', 'SELECT count(*) FROM webhook.webhook_log'),
	'0', 'a deal that does not meet the criteria queues nothing');

# A deal is won; until its transaction commits nothing is sent.
is($node->safe_psql('postgres', q{
	BEGIN;
	UPDATE deal SET stage = 'Closed Won' WHERE deal_id = 1;
	SELECT operation, record_id, status, attempts, retry_at IS NOT NULL, dispatched_at IS NULL,
		module, record->>'amount', old_record->>'stage' FROM webhook.webhook_log;
	SELECT pg_sleep(0.3);
	COMMIT}),
	"UPDATE|1|Queued|0|t|t|deal|1234567.10|Negotiation\n",
	'queued in the transaction, with the record before and after');
ok(wait_for_delivery($node), 'delivered');

my @requests = $receiver->requests;
is(scalar @requests, 1, 'the receiver got one request');
my $request = $requests[0];
my $log = row($node, q{SELECT l.*, age(completed_at, queued_at) < '10 s' AS soon FROM webhook.webhook_log l});
is($log->{status}, 'Success', 'the delivery succeeded');
is($log->{attempts}, 1, 'in one attempt');
is($log->{http_status}, 200, 'with status 200');
is($log->{retry_at}, undef, 'and nothing more is to happen');
is($log->{error}, undef, 'there is no error');
ok($log->{soon} && defined $log->{dispatched_at}, 'there are the times');

is($request->{method}, 'POST', 'method');
is($request->{path}, '/invoices', 'path');
is($request->{answer}, 200, 'the credentials were right');
is($receiver->header($request, 'Authorization'), 'Basic ' . encode_base64('crm:s3cret', ''), 'Authorization');
is($receiver->header($request, 'Content-Type'), 'application/json', 'Content-Type');
is($receiver->header($request, 'webhook-id'), $log->{webhook_id}, 'webhook-id');
like($receiver->header($request, 'webhook-timestamp'), qr/^[0-9]{10}$/, 'webhook-timestamp');
is($receiver->header($request, 'Content-Length'), length $request->{bytes}, 'Content-Length');

my $attempt = row($node, 'SELECT * FROM webhook.webhook_attempt');
is($attempt->{attempt}, 1, 'attempt 1');
is($attempt->{response_body}, 'ok', 'the answer is kept');
is(encode_base64($request->{bytes}, ''),
	$node->safe_psql('postgres',
		q{SELECT translate(encode(convert_to(request_body, 'UTF8'), 'base64'), E'\n', '') FROM webhook.webhook_attempt}),
	'the receiver got exactly the bytes in request_body');
is_deeply(
	JSON::PP->new->utf8->decode($request->{bytes}),
	{   deal => { id => 1, name => "Warehouse \x{201e}Nord\x{201c}", amount => 1234567.10 },
		reference => 'Deal 1 of 2026-03-31',
		lines => [ { text => "Warehouse \x{201e}Nord\x{201c}" } ] },
	'the body says what the parameters do');
like($request->{bytes}, qr/"amount": ?1234567\.10[,}]/, 'a number keeps every digit');

# While the receiver takes its time, the log says Dispatched.
$url = $receiver->url('/slow?ms=1500');
$node->safe_psql('postgres', qq{SELECT webhook.alter_action(1, url => '$url')});
$node->safe_psql('postgres', q{UPDATE deal SET stage = 'Closed Won' WHERE deal_id = 2});
my $status = q{SELECT status, dispatched_at IS NOT NULL, completed_at IS NULL FROM webhook.webhook_log WHERE record_id = '2'};
ok(wait_for_sql($node, $status, 'Dispatched|t|t'), 'Dispatched while the receiver thinks');
ok(wait_for_sql($node, $status, 'Success|t|f'), 'then Success');

# Credentials that are wrong are a failure like any other, and heal.
$node->safe_psql('postgres', q{
	SELECT webhook.alter_action(1, url => '} . $receiver->url('/invoices') . q{', password => 'wrong');
	INSERT INTO deal VALUES (3, 'Late', 'Closed Won', 1, NULL)});
ok(wait_for_sql($node,
	q{SELECT status, http_status, retry_at > now() + '50 min', error LIKE '%401%' FROM webhook.webhook_log WHERE record_id = '3'},
	'Failed|401|t|t'), 'wrong credentials: Failed, to be tried again in an hour');
$node->safe_psql('postgres', q{SELECT webhook.alter_action(1, password => 's3cret')});
turn_clock($node);
ok(wait_for_sql($node,
	q{SELECT status, attempts FROM webhook.webhook_log WHERE record_id = '3'}, 'Success|2'),
	'a mended action heals its backlog');
my @third = grep { $_->{path} eq '/invoices' && $_->{body} =~ /Late/ } $receiver->requests;
is($third[0]{webhook_id}, $third[1]{webhook_id}, 'the second attempt bears the same webhook-id');

# No secret is anywhere that is logged.
my $logged = $node->safe_psql('postgres',
	'SELECT l, a, c FROM webhook.webhook_log l, webhook.webhook_attempt a, webhook.action c');
unlike($logged, qr/s3cret|Y3JtOnMzY3JldA/, 'no password in the log');

$receiver->stop;
$node->stop;
done_testing();
