# What becomes of a delivery whose receiver fails: in every way, one after the
# other, and each told in plain words.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Test::More;
use WebhookTest;

my $node = start_cluster('failures', conf => q{
webhook.timeout = '1500ms'
webhook.connect_timeout = '1s'
});
my $receiver = start_receiver();
my $closed = closed_port();
my $pem = "$PostgreSQL::Test::Utils::tmp_check/receiver";
PostgreSQL::Test::Utils::run_log([ 'openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2',
	'-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', "$pem.key", '-out', "$pem.crt" ])
  or die 'no certificate';
my $secure = start_receiver(tls => [ "$pem.crt", "$pem.key" ]);

$node->safe_psql('postgres', q{
	CREATE TABLE event (id int PRIMARY KEY, kind text);
	SELECT webhook.create_workflow('events', 'event', 'create');
	SELECT webhook.create_action('events', 'send', 'http://127.0.0.1:1/')});

my $id = 0;
wait_for_sql($node, 'SELECT count(*) = 1 FROM webhook.stat_worker WHERE capacity IS NOT NULL');
my $capacity = $node->safe_psql('postgres', 'SELECT capacity FROM webhook.stat_worker');

# Queue one event for a URL, wait for its first attempt, and return its row.
sub attempt_at
{
	my ($url) = @_;

	$id++;
	$node->safe_psql('postgres', "SELECT webhook.alter_action(1, url => '$url'); INSERT INTO event VALUES ($id)");
	wait_for_sql($node, "SELECT attempts = 1 AND status <> 'Dispatched' FROM webhook.webhook_log WHERE record_id = '$id'")
	  or return { status => 'lost' };
	return row($node, "SELECT l.*, a.error AS attempt_error, a.response_body, a.duration < '3 s' AS quick,
		extract(epoch FROM retry_at - started_at)::int AS retry_in
		FROM webhook.webhook_log l JOIN webhook.webhook_attempt a USING (log_id) WHERE record_id = '$id'");
}

# 503: attempts at 0, 1 h, 3 h and 7 h, then no more.
my $busy = attempt_at($receiver->url('/status/503?body=busy'));
my @due;
for my $attempt (1 .. 4)
{
	my $log = row($node, "SELECT status, attempts, http_status, error, completed_at,
		extract(epoch FROM retry_at - (SELECT max(started_at) FROM webhook.webhook_attempt a WHERE a.log_id = l.log_id)) AS wait
		FROM webhook.webhook_log l WHERE record_id = '$id'");
	is($log->{status}, 'Failed', "attempt $attempt failed");
	is($log->{attempts}, $attempt, "attempt $attempt is counted");
	is($log->{http_status}, 503, 'its status is kept');
	push @due, $log->{wait};
	last if $attempt == 4;
	is($log->{completed_at}, undef, 'the delivery is not completed');
	turn_clock($node);
	my $next = $attempt + 1;
	ok(wait_for_sql($node, "SELECT attempts = $next AND status = 'Failed' FROM webhook.webhook_log WHERE record_id = '$id'"),
		"attempt $next is made");
}
for (my $i = 0; $i < 3; $i++)
{
	my $wanted = 3600 * 2**$i;
	cmp_ok(abs($due[$i] - $wanted), '<', 5, "the wait after attempt " . ($i + 1) . " is $wanted s");
}
is($due[3], undef, 'after the fourth attempt there is no retry_at');
my $over = row($node, "SELECT * FROM webhook.webhook_log WHERE record_id = '$id'");
ok(defined $over->{completed_at}, 'and it is completed');
like($over->{error}, qr/503/, 'its error names the status');
is_deeply([ map { "$_->{attempt} $_->{http_status} $_->{response_body}" }
		rows($node, "SELECT a.* FROM webhook.webhook_attempt a WHERE log_id = $over->{log_id} ORDER BY attempt") ],
	[ map { "$_ 503 busy" } 1 .. 4 ], 'four rows in webhook_attempt');
my %ids = map { $_->{webhook_id} => 1 } $receiver->requests('/status/503');
is_deeply([ keys %ids ], [ $over->{webhook_id} ], 'each attempt bore the same webhook-id');

# Every other way to fail.
my @ways = (
	[ 'refuses the connection', "http://127.0.0.1:$closed/", undef, qr/connect|refused/i ],
	[ 'hangs past the timeout', $receiver->url('/hang'), undef, qr/no answer within 1.5 s/ ],
	[ 'drips past the timeout', $receiver->url('/drip'), undef, qr/did not finish its answer within 1.5 s/ ],
	[ 'resets in mid-answer', $receiver->url('/reset'), undef, qr/in the middle of its answer/ ],
	[ 'closes in mid-answer', $receiver->url('/cut'), undef, qr/in the middle of its answer/ ],
	[ 'closes without an answer', $receiver->url('/close'), undef, qr/answer|empty|clos/i ],
	[ 'speaks no HTTP', $receiver->url('/garbage'), undef, qr/HTTP/ ],
	[ 'has a header without a colon', $receiver->url('/malformed'), 200, qr/^receiver's answer is malformed: \S/ ],
	[ 'has a chunk without a length', $receiver->url('/malformed-chunk'), 200, qr/^receiver's answer is malformed: \S/ ],
	[ 'redirects', $receiver->url('/redirect?to=http://127.0.0.1:1/secret'), 301, qr/301|redirect/i ],
	[ 'sends headers without end', $receiver->url('/endless-headers'), undef, qr/header/i ],
	[ 'sends 100 Continue without end', $receiver->url('/endless-continue'), undef, qr/header|no answer within/i ],
	[ 'has no such page', $receiver->url('/status/404'), 404, qr/404/ ],
	[ 'wants a name', $receiver->url('/basic'), 401, qr/401/ ],
	[ 'has an error', $receiver->url('/status/500'), 500, qr/500/ ],
	[ 'has a status of its own', $receiver->url('/status/599'), 599, qr/599/ ],
	[ 'has no such host', 'http://no-such-host.invalid/', undef, qr/host|resolve|name/i ],
	[ 'does not answer to TLS', "https://127.0.0.1:$receiver->{port}/", undef, qr/^receiver did not finish the TLS handshake within 1 s \(127.0.0.1 port \d+\)$/ ],
	[ 'has a certificate that nobody knows', $secure->url('/ok'), undef, qr/certificate/ ]);
for my $way (@ways)
{
	my ($what, $url, $http_status, $error) = @$way;
	my $log = attempt_at($url);

	is($log->{status}, 'Failed', "a receiver that $what: Failed");
	is($log->{http_status}, $http_status, "a receiver that $what: status") if defined $http_status;
	like($log->{error}, $error, "a receiver that $what: error");
	is($log->{attempt_error}, $log->{error}, "a receiver that $what: same in webhook_attempt");
	cmp_ok(abs($log->{retry_in} - 3600), '<', 10, "a receiver that $what: again in an hour");
	ok($log->{quick}, "a receiver that $what: given up in time");
}
is($node->safe_psql('postgres', 'SELECT capacity FROM webhook.stat_worker'), $capacity, 'none is taken for a want of memory or descriptors here');
is(scalar $receiver->requests('/redirected'), 0, 'a redirect is not followed');
is(scalar $receiver->requests('/secret'), 0, 'nowhere');

# A first header that continues none is read differently by every libcurl; some follow a
# pointer into what is left of the answer before, if a handle is used again.
my $worker = q{SELECT pid FROM webhook.stat_worker};
my $pid = $node->safe_psql('postgres', $worker);
for (1 .. 5)
{
	is(attempt_at($receiver->url('/ok'))->{status}, 'Success', 'after an answer with headers');
	like(attempt_at($receiver->url('/continued'))->{error} // '', qr/^(?:receiver's answer is malformed: \S.*)?$/, 'one that continues them');
}
is($node->safe_psql('postgres', $worker), $pid, 'harms nobody');

# An answer that never ends but was 200: cut, and no more than asked for kept.
my $endless = attempt_at($receiver->url('/endless-body'));
cmp_ok(length $endless->{response_body}, '<=', 4096, 'of an endless answer only the beginning is kept');
ok($endless->{quick}, 'and it is not listened to for ever');
my $big = attempt_at($receiver->url('/big?bytes=100000'));
is($big->{status}, 'Success', 'a large answer is an answer');
is(length $big->{response_body}, 4096, 'of which webhook.log_response_size bytes are kept');
my $bomb = attempt_at($receiver->url('/gzip-bomb'));
is($bomb->{status}, 'Success', 'a compressed answer is an answer');
cmp_ok(length $bomb->{response_body}, '<=', 4096, 'and not unpacked');
my $huge = attempt_at($receiver->url('/huge'));
like($huge->{status}, qr/^(Success|Failed)$/, 'an answer of a gigabyte: ' . ($huge->{error} // 'cut'));
ok($huge->{quick}, 'costs no more than its timeout');
cmp_ok($node->safe_psql('postgres', 'SELECT memory FROM webhook.stat_worker'), '<', 64 * 1024 * 1024, 'nor memory');
my $binary = attempt_at($receiver->url('/binary'));
is($binary->{status}, 'Success', 'an answer that is no text is an answer');
like($binary->{response_body}, qr/^nul .*broken/, 'and kept as far as it is text');
like(attempt_at($receiver->url('/latin1'))->{response_body}, qr/^Gr.+e$/, 'to its end');
is(attempt_at($receiver->url('/status/204'))->{status}, 'Success', '204 is a success');
is(attempt_at($receiver->url('/status/299'))->{status}, 'Success', '299 is a success');

# Retry-After.
my @waits = (
	[ '/status/503?retry_after=7200', 7200, 'later than the schedule: honoured' ],
	[ '/status/429?retry_after=7200', 7200, 'on 429 too' ],
	[ '/status/503?retry_after=7', 3600, 'earlier than the schedule: not' ],
	[ '/status/503?retry_after=1000000', 86400, 'up to a day' ],
	[ '/status/503?retry_after_date=7200', 7200, 'as a date' ],
	[ '/status/503?retry_after=soon', 3600, 'nonsense: not' ],
	[ '/status/500?retry_after=7200', 3600, 'on another status: not' ]);
for my $wait (@waits)
{
	my $log = attempt_at($receiver->url($wait->[0]));
	cmp_ok(abs($log->{retry_in} - $wait->[1]), '<', 10, "Retry-After $wait->[2]");
}

# TLS with a certificate that is known
is(scalar $secure->requests, 0, 'nothing is sent to whom nobody knows');
$node->append_conf('postgresql.conf', "webhook.ca_file = '$pem.crt'");
$node->reload;
wait_for_sql($node, 'SHOW webhook.ca_file', "$pem.crt");
is(attempt_at($secure->url('/ok'))->{status}, 'Success', 'once webhook.ca_file names its certificate it is trusted');

# 410 is for good, and disables the action.
my $gone = attempt_at($receiver->url('/gone'));
is($gone->{status}, 'Failed', '410: Failed');
is($gone->{retry_at}, undef, 'for good');
is($node->safe_psql('postgres', 'SELECT enabled FROM webhook.action'), 'f', 'and the action is disabled');
$node->safe_psql('postgres', 'INSERT INTO event VALUES (1000)');
is($node->safe_psql('postgres', q{SELECT count(*) FROM webhook.webhook_log WHERE record_id = '1000'}), '0',
	'a disabled action queues nothing new');

# A schedule of the action's own.
$node->safe_psql('postgres', q{
	SELECT webhook.enable_action(1);
	SELECT webhook.alter_action(1, retry_schedule => '{5 min}')});
my $own = attempt_at($receiver->url('/status/500'));
cmp_ok(abs($own->{retry_in} - 300), '<', 10, 'the action\'s own schedule');
turn_clock($node, "record_id = '$id'");
ok(wait_for_sql($node, "SELECT status = 'Failed' AND attempts = 2 AND retry_at IS NULL FROM webhook.webhook_log WHERE record_id = '$id'"),
	'ends after its last step');

$receiver->stop;
$secure->stop;
$node->stop;
done_testing();
