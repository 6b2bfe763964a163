# Connections that are kept, and end between two requests: no delivery has to wait an
# hour for that, nor takes an answer that is another's.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Test::More;
use Time::HiRes qw(sleep time);
use WebhookTest;

my $pem = "$PostgreSQL::Test::Utils::tmp_check/kept";
PostgreSQL::Test::Utils::run_log([ 'openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2',
	'-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', "$pem.key", '-out', "$pem.crt" ])
  or die 'no certificate';
my $plain = start_receiver();
my $secure = start_receiver(tls => [ "$pem.crt", "$pem.key" ]);
my $node = start_cluster('kept', conf => "webhook.ca_file = '$pem.crt'\nwebhook.timeout = '5s'");
my $worker = worker_pid($node);

$node->safe_psql('postgres', q{
	CREATE TABLE event (id int PRIMARY KEY);
	SELECT webhook.create_workflow('events', 'event', 'create');
	SELECT webhook.create_action('events', 'send', 'http://127.0.0.1:1/', max_in_flight => 100)});

# So many deliveries to a URL: how they ended, as "status attempts", and how often.
my $last = 0;
sub deliver
{
	my ($url, $n) = @_;
	my $first = $last + 1;

	$last += $n;
	$node->safe_psql('postgres', "SELECT webhook.alter_action(1, url => '$url'); INSERT INTO event SELECT generate_series($first, $last)");
	wait_for_sql($node, "SELECT bool_and(status IN ('Success', 'Failed')) FROM webhook.webhook_log WHERE record_id::int BETWEEN $first AND $last");
	return { map { ("$_->{status} $_->{attempts}" => $_->{n}) }
		rows($node, "SELECT status, attempts, count(*) AS n FROM webhook.webhook_log WHERE record_id::int BETWEEN $first AND $last GROUP BY 1, 2") };
}

# The worker's connections to a receiver that neither has ended.
sub connections
{
	my ($receiver) = @_;
	my $port = sprintf('%04X', $receiver->{port});
	my %inodes = map { (split)[9] => 1 } grep { /^\s*\d+: [0-9A-F]{8}:[0-9A-F]{4} [0-9A-F]{8}:$port 01 / }
	  split /\n/, PostgreSQL::Test::Utils::slurp_file('/proc/net/tcp');

	return scalar grep { defined && /^socket:\[(\d+)\]/ && $inodes{$1} } map { readlink } glob("/proc/$worker/fd/*");
}

sub wait_for_connections
{
	my ($receiver, $n) = @_;
	my $deadline = time + $WebhookTest::patience;

	sleep 0.02 while connections($receiver) != $n && time < $deadline;
	return connections($receiver) == $n;
}

# Newer libcurls don't look at a connection that they have used a moment ago.
sub wait_until_idle
{
	wait_for_sql($node, "SELECT clock_timestamp() - max(completed_at) > '1100 ms' FROM webhook.webhook_log");
}

# A receiver that ends what has been idle: the next request goes elsewhere, at once.
for my $receiver ($plain, $secure)
{
	my $what = $receiver == $secure ? 'https' : 'http';

	for my $round (1 .. 3)
	{
		is_deeply(deliver($receiver->url('/farewell'), 1), { 'Success 1' => 1 }, "$what: one request, one attempt, $round");
		ok(wait_for_connections($receiver, 0), '... and its connection ends');
		wait_until_idle();
	}
}

# What comes unasked is the answer to nothing.
is_deeply(deliver($plain->url('/twice'), 1), { 'Success 1' => 1 }, 'a receiver that answers twice');
ok(wait_for_connections($plain, 0), '... is not kept');
wait_until_idle();
is_deeply(deliver($plain->url('/status/500?body=own'), 1), { 'Failed 1' => 1 }, '... and the next request');
is($node->safe_psql('postgres', "SELECT response_body FROM webhook.webhook_attempt JOIN webhook.webhook_log USING (log_id) WHERE record_id = '$last'"),
	'own', '... gets its own answer');

# Thirty kept connections of which each ends with the next request, as where something
# between has forgotten them.
for my $receiver ($plain, $secure)
{
	my $what = $receiver == $secure ? 'https' : 'http';

	is_deeply(deliver($receiver->url('/once?ms=700'), 30), { 'Success 1' => 30 }, "$what: thirty at once");
	ok(connections($receiver) >= 10, '... on connections of their own: ' . connections($receiver));
	my $outcome = deliver($receiver->url('/once'), 1);
	like(join(',', keys %$outcome), qr/^Success [2-7]$/, '... of which none is worth anything: the next request gets through');
	is($node->safe_psql('postgres', "SELECT DISTINCT a.error FROM webhook.webhook_attempt a JOIN webhook.webhook_log USING (log_id) WHERE record_id = '$last' AND a.error IS NOT NULL"),
		'receiver closed a kept connection without an answer; sent again at once', '... and each of its attempts is told');
}

# One that closes a new connection has not answered.
$plain->stop;
$plain->start_again;
wait_until_idle();
is_deeply(deliver($plain->url('/close'), 1), { 'Failed 1' => 1 }, 'a new connection that ends without an answer is a failed attempt');

$node->stop;
done_testing();
