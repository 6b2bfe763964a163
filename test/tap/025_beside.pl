# Beside other extensions, poolers and logical replication.  What Debian has of
# them is unpacked by the harness; a part whose package is not there is skipped.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use IPC::Run;
use MIME::Base64;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use WebhookTest;

my $receiver = start_receiver();
my $url = $receiver->url('/ok');
my ($share) = PostgreSQL::Test::Utils::run_command([ 'pg_config', '--sharedir' ]);
my %secret = (password => 'pass-geheim', signing => 'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw');

sub has_extension { return -e "$share/extension/$_[0].control" }

# The bodies that were sent since the last call, in the order of their text.
my $seen = 0;

sub sent
{
	my @requests = $receiver->requests('/ok');
	my @new = @requests[ $seen .. $#requests ];

	$seen = @requests;
	return join ' ', sort map { $_->{body} } @new;
}

# A table with a workflow that sends each row's id, and what the row says.
sub make_module
{
	my ($node, $name, $say) = @_;

	$node->safe_psql('postgres', qq{
		CREATE TABLE $name (id int PRIMARY KEY, t text);
		SELECT webhook.create_workflow('$name', '$name');
		SELECT webhook.create_action('$name', 'send', '$url', parameters => '{"$say": "\${id}"}')});
	return;
}

# ---------------------------------------------------------------------------
# Loaded together, in either order
# ---------------------------------------------------------------------------

my %library = (pg_stat_statements => 'pg_stat_statements', pg_cron => 'pg_cron', pgaudit => 'pgaudit', pg_partman => 'pg_partman_bgw');
my @others = grep { has_extension($_) } sort keys %library;
my @libraries = map { $library{$_} } @others;
my $conf = q{
max_worker_processes = 20
};
$conf .= "pg_stat_statements.track = all\npg_stat_statements.track_utility = on\n" if has_extension('pg_stat_statements');
$conf .= "cron.database_name = 'postgres'\ncron.use_background_workers = on\n" if has_extension('pg_cron');
$conf .= "pg_partman_bgw.dbname = 'postgres'\npg_partman_bgw.interval = 1\n" if has_extension('pg_partman');
$conf .= "pgaudit.log = 'all'\npgaudit.log_parameter = on\npgaudit.log_relation = on\n" if has_extension('pgaudit');
note("beside: @others");

my $node = start_cluster('beside', extension => 0, conf => $conf . "shared_preload_libraries = '" . join(',', @libraries, 'webhook') . "'\n");

sub create_extensions
{
	for my $extension (@_)
	{
		$node->safe_psql('postgres', $extension eq 'pg_partman' ? 'CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman' : "CREATE EXTENSION $extension");
	}
	return;
}

create_extensions('webhook', @others);
make_module($node, 'deal', 'deal');
$node->safe_psql('postgres', 'INSERT INTO deal VALUES (1)');
ok(wait_for_delivery($node), 'loaded last, created first');
is(sent(), '{"deal": 1}', '... webhooks are sent');
$node->safe_psql('postgres', 'DROP TABLE deal; DROP EXTENSION webhook; ' . join '; ', map { "DROP EXTENSION $_" } @others);
$node->safe_psql('postgres', 'DROP SCHEMA IF EXISTS partman');
$node->append_conf('postgresql.conf', "shared_preload_libraries = '" . join(',', 'webhook', @libraries) . "'");
$node->restart;
create_extensions(@others, 'webhook');
make_module($node, 'deal', 'deal');
$node->safe_psql('postgres', 'INSERT INTO deal VALUES (2)');
ok(wait_for_delivery($node), 'loaded first, created last');
is(sent(), '{"deal": 2}', '... webhooks are sent');
is($node->safe_psql('postgres', q{SELECT string_agg(status || ' ' || "check", ', ') FROM webhook.health() WHERE status <> 'ok'}), '', '... and all is well');

# ---------------------------------------------------------------------------
# pg_stat_statements
# ---------------------------------------------------------------------------

SKIP:
{
	skip 'pg_stat_statements is not there', 6 unless has_extension('pg_stat_statements');

	# One after the other, so that the worker has as many turns as deliveries.
	$node->safe_psql('postgres', 'SELECT pg_stat_statements_reset()');
	$node->safe_psql('postgres', "INSERT INTO deal VALUES (10, 'x'); SELECT webhook.wait()") for 1;
	my $few = $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_statements WHERE query LIKE '%webhook%'});
	$node->safe_psql('postgres', join '; ', map { "INSERT INTO deal VALUES ($_, 'x'); SELECT webhook.wait()" } 11 .. 60);
	my $many = $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_statements WHERE query LIKE '%webhook%'});
	is(scalar(split / /, sent()), 51 * 2, 'deliveries one by one');
	cmp_ok($many - $few, '<', 20, "add no statements each ($few, then $many)");
	$node->safe_psql('postgres', qq{
		SELECT webhook.create_action('deal', 'secret', '$url', username => 'crm', password => '$secret{password}', signing_secret => 'whsec_$secret{signing}', parameters => '{"secret": "\${id}"}');
		SELECT webhook.rotate_secret(2, 'whsec_$secret{signing}')});
	my $statements = $node->safe_psql('postgres', 'SELECT query FROM pg_stat_statements');
	like($statements, qr/SELECT webhook\.create_action\(\$1, \$2, \$3, username => \$4, password => \$5, signing_secret => \$6/, 'statements are normalized');
	unlike($statements, qr/$secret{password}|$secret{signing}/, '... and have no secrets');
	$node->safe_psql('postgres', q{INSERT INTO deal VALUES (70, 'x')});
	ok(wait_for_delivery($node), 'with which webhooks are sent');
	is(sent(), '{"deal": 70} {"secret": 70}', '... to all actions');
	unlike($node->safe_psql('postgres', 'SELECT query FROM pg_stat_statements'), qr/$secret{password}|$secret{signing}/, '... and nothing is told');
	$node->safe_psql('postgres', 'SELECT webhook.drop_action(2)');
}

# ---------------------------------------------------------------------------
# pgaudit
# ---------------------------------------------------------------------------

SKIP:
{
	skip 'pgaudit is not there', 6 unless has_extension('pgaudit');

	# What the README says of statements with secrets: they are given in a
	# session that logs none.
	my $offset = -s $node->logfile;
	$node->safe_psql('postgres', qq{
		SET log_statement = none; SET log_min_error_statement = panic; SET pgaudit.log = none;
		SELECT webhook.create_action('deal', 'audited', '$url', username => 'crm', password => '$secret{password}',
			signing_secret => 'whsec_$secret{signing}', parameters => '{"audited": "\${id}"}')});
	$node->safe_psql('postgres', q{INSERT INTO deal VALUES (80, 'x'), (81, 'x')});
	$node->safe_psql('postgres', q{SELECT * FROM webhook.preview((SELECT max(action_id) FROM webhook.action), '80'); SELECT webhook.export()});
	$node->safe_psql('postgres', q{SELECT webhook.alter_action((SELECT max(action_id) FROM webhook.action), title => 'audited still')});
	ok(wait_for_delivery($node), 'audited');
	is(sent(), '{"audited": 80} {"audited": 81} {"deal": 80} {"deal": 81}', '... triggers and worker go on');
	my $log = substr(slurp_file($node->logfile), $offset);
	like($log, qr/AUDIT: SESSION,.*WRITE,INSERT,TABLE,public\.deal,/, '... what users do is in the log');
	my @leaks = grep { /$secret{password}|$secret{signing}|\Q${\encode_base64("crm:$secret{password}", '')}\E/ } split /\n/, $log;
	is("@leaks", '', '... and no secret is');
	my $lines = () = $log =~ /AUDIT: .*webhook\.webhook_log/g;
	note("$lines lines about the log");
	$node->safe_psql('postgres', 'SELECT webhook.drop_action((SELECT max(action_id) FROM webhook.action))');
}

# ---------------------------------------------------------------------------
# pg_cron
# ---------------------------------------------------------------------------

SKIP:
{
	skip 'pg_cron is not there', 4 unless has_extension('pg_cron');
	my $deadline = time + 70 + $WebhookTest::patience;

	# Debian 12's runs jobs once a minute.  The first one begins with the minute.
	$node->safe_psql('postgres', q{
		SELECT cron.schedule('write', '* * * * *', $$INSERT INTO deal VALUES (90, 'cron') ON CONFLICT DO NOTHING$$);
		SELECT cron.schedule('run', '* * * * *', $$SELECT webhook.run_workflow('deal') WHERE NOT EXISTS (SELECT FROM webhook.webhook_log WHERE operation = 'MANUAL')$$)});
}
