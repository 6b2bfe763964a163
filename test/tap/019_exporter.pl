# The queries in test/exporter, run by the real prometheus-postgres-exporter.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use HTTP::Tiny;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use WebhookTest;

my ($program) = grep { -x } map { "$_/prometheus-postgres-exporter" } split /:/, $ENV{PATH};
plan skip_all => 'prometheus-postgres-exporter is not there' unless $program;

my $node = start_cluster('exporter');
my $receiver = start_receiver();
my $refused = closed_port();
my $port = closed_port();

$node->safe_psql('postgres', q{
	CREATE ROLE crm_admin;
	GRANT USAGE ON SCHEMA webhook TO crm_admin;
	GRANT CREATE ON SCHEMA public TO crm_admin;
	CREATE ROLE exporter LOGIN;
	GRANT pg_monitor TO exporter;
	GRANT USAGE ON SCHEMA webhook TO exporter;
	GRANT crm_admin TO exporter;
	SET ROLE crm_admin;
	CREATE TABLE deal (id int PRIMARY KEY);
	SELECT webhook.create_workflow('deal won', 'deal', 'create');
	SELECT webhook.create_action('deal won', 'invoice', '} . $receiver->url('/ok') . q{');
	SELECT webhook.create_action('deal won', 'nobody', 'http://127.0.0.1:} . $refused . q{/', retry_schedule => '{}');
	INSERT INTO deal SELECT generate_series(1, 20)});
ok(wait_for_delivery($node), 'sent');
ok(wait_for_sql($node, 'SELECT sum(attempts) FROM webhook.stat_action', '40'), 'counted');

my $log = "$PostgreSQL::Test::Utils::tmp_check/exporter.log";
local $ENV{DATA_SOURCE_NAME} = 'user=exporter dbname=postgres sslmode=disable host=' . $node->host . ' port=' . $node->port;
my $exporter = IPC::Run::start(
	[ $program, "--web.listen-address=127.0.0.1:$port", '--disable-default-metrics',
		'--disable-settings-metrics', "--extend.query-path=$FindBin::RealBin/../exporter/queries.yaml" ],
	'<', \undef, '>', $log, '2>&1');

my $answer;
my $deadline = time + $WebhookTest::patience;
do
{
	sleep 0.1;
	$answer = HTTP::Tiny->new->get("http://127.0.0.1:$port/metrics");
} until $answer->{success} || time > $deadline;
my $metrics = $answer->{content};
my $action = q{action_id="1",datname="postgres",[^\}]*title="invoice",workflow="deal won"};
my $nobody = q{action_id="2",datname="postgres",[^\}]*title="nobody",workflow="deal won"};

note(join "\n", grep { /^webhook_/ } split /\n/, $metrics);
like($metrics, qr/^webhook_action_succeeded_total\{$action\} 20$/m, 'what succeeded');
like($metrics, qr/^webhook_action_failed_total\{$nobody\} 20$/m, 'what was given up');
like($metrics, qr/^webhook_action_failing\{$action\} 0$/m, 'a receiver that is well');
like($metrics, qr/^webhook_action_failing\{$nobody\} 1$/m, 'one that is failing');
like($metrics, qr/^webhook_action_p95_seconds\{$action\} [\d.e-]+$/m, 'latency');
like($metrics, qr/^# TYPE webhook_action_attempts_total counter$/m, 'counters are counters');
like($metrics, qr/^webhook_worker_up\{datname="postgres",[^\}]*worker="0"\} 1$/m, 'the worker');
like($metrics, qr/^webhook_worker_last_turn_timestamp_seconds\{[^\}]*\} 1[\d.e+]+$/m, 'when it last looked');
like($metrics, qr/^webhook_health_status\{check="worker",datname="postgres",[^\}]*\} 0$/m, 'health');
like($metrics, qr/^webhook_health_status\{check="receivers",datname="postgres",[^\}]*\} 1$/m, 'and where there is none');
my $errors = slurp_file($log);
unlike($errors, qr/level=error/, 'the exporter is content') or diag($errors);

$exporter->kill_kill;
$receiver->stop;
$node->stop;
done_testing();
