# Fifty thousand rows in one transaction.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Test::More;
use Time::HiRes qw(sleep);
use WebhookTest;

my $count = 50_000;
my $node = start_cluster('bulk');
my $receiver = start_receiver(terse => 1);
my $url = $receiver->url('/event');

$node->safe_psql('postgres', qq{
	CREATE TABLE event (id int PRIMARY KEY, stage text, note text);
	SELECT webhook.create_workflow('events', 'event', 'create', 'stage = ''won''');
	SELECT webhook.create_action('events', 'send', '$url')});

# The most memory that a process has held, of its own, in megabytes.
sub memory
{
	my ($pid) = @_;
	my $text = PostgreSQL::Test::Utils::slurp_file("/proc/$pid/status");
	my ($anonymous) = $text =~ /^RssAnon:\s+([0-9]+) kB/m;

	return $anonymous / 1024;
}

my $pid = worker_pid($node);
$node->safe_psql('postgres',
	"INSERT INTO event SELECT i, CASE WHEN i <= $count THEN 'won' ELSE 'lost' END, repeat('x', 200) FROM generate_series(1, $count + 1000) i");
my $most = 0;
my $deadline = time + 180;
while ($receiver->count < $count && time < $deadline)
{
	my $now = memory($pid);
	$most = $now if $now > $most;
	sleep 0.1;
}
is($receiver->count, $count, 'every row that meets the criteria is sent');
ok(wait_for_delivery($node), 'and settled');
is($node->safe_psql('postgres',
	'SELECT status, attempts, count(*) FROM webhook.webhook_log GROUP BY 1, 2'), "Success|1|$count", 'each in one attempt');
is($node->safe_psql('postgres', 'SELECT count(*) FROM webhook.webhook_attempt'), $count, 'with one row in webhook_attempt');
is(scalar keys %{ $receiver->deliveries }, $count, 'under a webhook-id of its own');
is(worker_pid($node), $pid, 'by one and the same worker');
cmp_ok($most, '<', 100, sprintf('which held %.0f MB at most', $most));

$receiver->stop;
$node->stop;
done_testing();
