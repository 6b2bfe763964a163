# A burst meets a receiver as many at a time as that takes: TCP tries a connection
# that found a receiver's queue full again after one second, two, four.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use IO::Socket::INET;
use POSIX ();
use Test::More;
use WebhookTest;

my $node = start_cluster('burst');
my $receiver = start_receiver();

sub sql { return $node->safe_psql('postgres', shift) }

# What many a program's own server is like: it does one thing after the other,
# closes each connection, and has a queue for five.
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 5) or die "no port: $!";
my $port = $listener->sockport;
my $server = fork;
die "no process: $!" unless defined $server;
if ($server == 0)
{
	$SIG{TERM} = 'DEFAULT';
	while (my $connection = $listener->accept)
	{
		my $length = 0;
		my $body;

		while (defined(my $line = <$connection>))
		{
			$length = $1 if $line =~ /^content-length: *(\d+)/i;
			last if $line =~ /^\r?\n/;
		}
		read $connection, $body, $length if $length > 0;
		print $connection "HTTP/1.0 200 OK\r\n\r\n";
		close $connection;
	}
	POSIX::_exit(0);
}
close $listener;
END { local $?; kill 'TERM', $server if $server }

sql(qq{CREATE TABLE event (id int PRIMARY KEY, kind text);
	SELECT webhook.create_workflow(kind, 'event', condition => format('kind = %L', kind)) FROM unnest('{short, slow}'::text[]) kind;
	SELECT webhook.create_action('short', 'send', 'http://127.0.0.1:$port/');
	SELECT webhook.create_action('slow', 'send', '@{[ $receiver->url('/hang') ]}')});

sql(q{INSERT INTO event SELECT i, 'short' FROM generate_series(1, 300) i});
ok(wait_for_delivery($node), 'a burst for a receiver with a short queue is done');
is(sql(q{SELECT count(*) FILTER (WHERE status = 'Success'), max(attempts) FROM webhook.webhook_log}), '300|1', '... at the first attempt');
cmp_ok(sql(q{SELECT count(*) FROM webhook.webhook_attempt WHERE duration > '1.7 s'}), '<', 5, '... and next to none has found the queue full time and again');

# One that takes its time has as many in flight as it may all the same.
sql(q{INSERT INTO event SELECT i, 'slow' FROM generate_series(1001, 1100) i});
ok(wait_for_sql($node, 'SELECT in_flight FROM webhook.stat_worker', '50'), 'a slow receiver has fifty at once');
is(sql(q{SELECT count(*) FROM webhook.webhook_attempt WHERE log_id > 300}), '0', '... before it has answered any');

kill 'TERM', $server;
waitpid $server, 0;
$server = 0;
$node->stop('immediate');
done_testing();
