
# Passwords and signing secrets: in no table, view, function's result, message,
# log, activity or mail that anybody but a superuser may see.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use MIME::Base64;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookTest;

my %secret = (
	password => 'pass-geheim',
	authorization => encode_base64('crm:pass-geheim', ''),
	signing => 'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
	rotated => 'C2FVsBQIhrscChlQIMV+b5sSYspob7oD',
	mail => 'mail-geheim');
my $any = join '|', map { quotemeta } values %secret;
my $receiver = start_receiver();
my $pem = "$PostgreSQL::Test::Utils::tmp_check/secrets";
PostgreSQL::Test::Utils::run_log([ 'openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2',
	'-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-keyout', "$pem.key", '-out', "$pem.crt" ])
  or die 'no certificate';
my $server = start_mail_server(tls => [ "$pem.crt", "$pem.key" ], auth => "crm:$secret{mail}", refuse => ['nobody@example.com']);
my $node = start_cluster('secrets', extension => 0, conf => qq{
shared_preload_libraries = 'pg_stat_statements, webhook'
pg_stat_statements.track = all
log_statement = all
log_min_duration_statement = 0
log_min_messages = debug2
log_error_verbosity = verbose
log_parameter_max_length_on_error = -1
webhook.ca_file = '$pem.crt'
webhook.smtp_url = '${\$server->url}'
webhook.smtp_username = 'crm'
webhook.smtp_password = '$secret{mail}'
webhook.smtp_from = 'crm\@example.com'
webhook.mail_interval = 0
});

# What PostgreSQL itself logs of the statements that bring the secrets is not
# ours: these sessions log no statements.
my $quietly = 'SET log_statement = none; SET log_min_duration_statement = -1; SET log_min_error_statement = panic; SET log_min_messages = log;';
$node->safe_psql('postgres', qq{
	CREATE EXTENSION pg_stat_statements; CREATE EXTENSION webhook;
	CREATE ROLE alice LOGIN; CREATE ROLE snoop LOGIN; GRANT pg_read_all_data, pg_read_all_stats, pg_write_all_data TO snoop;
	GRANT USAGE ON SCHEMA webhook TO alice; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA webhook TO alice, snoop;
	INSERT INTO webhook.admin VALUES ('root\@example.com', true), ('nobody\@example.com', true);
	CREATE TABLE deal (id int PRIMARY KEY, name text); ALTER TABLE deal OWNER TO alice});
my $made = $node->safe_psql('postgres', qq{$quietly
	SET ROLE alice;
	SELECT webhook.create_workflow('deal', 'deal');
	SELECT webhook.create_action('deal', 'echo', '${\$receiver->url('/echo')}', username => 'crm', password => '$secret{password}',
		signing_secret => 'whsec_$secret{signing}', headers => '{"X-Password": "none"}');
	SELECT webhook.create_action('deal', 'slow', '${\$receiver->url('/slow?ms=300')}', username => 'crm', password => '$secret{password}');
	SELECT webhook.rotate_secret(1, 'whsec_$secret{rotated}')});
is($made, "1\n1\n2\n", 'an action with secrets');

# Errors of ours name no secret, whatever is wrong with it.
for my $bad (qq{SELECT webhook.alter_action(1, password => E'$secret{password}\\n')},
	qq{SELECT webhook.alter_action(1, username => '', password => '$secret{password}')},
	qq{SELECT webhook.alter_action(1, signing_secret => '$secret{signing}')},
	qq{SELECT webhook.alter_action(1, signing_secret => 'whsec_$secret{signing}!')},
	qq{SELECT webhook.rotate_secret(1, '$secret{rotated}')},
	qq{SELECT webhook.create_action('deal', 'x', 'https://crm:$secret{password}\@example.com/')})
{
	my ($rc, $out, $err) = $node->psql('postgres', "$quietly SET ROLE alice; $bad", extra_params => [ '-v', 'VERBOSITY=verbose' ]);

	$err =~ s/^LINE .*\n.*\n//mg;
	like($err, qr/ERROR:  /, 'refused');
	unlike($err, qr/$any/, 'without a word of it');
}

# Deliveries that fail and succeed, mails that arrive and are refused.
my $watched = '';
$node->safe_psql('postgres', "INSERT INTO deal SELECT i, 'x' FROM generate_series(1, 20) i");
ok(wait_for_sql($node, q{SELECT count(*) > 0 FROM webhook.webhook_log WHERE status = 'Dispatched'}), 'requests are in flight');
$watched .= $node->safe_psql('postgres', 'SELECT a FROM pg_stat_activity a', extra_params => [ '-U', 'snoop' ]) for 1 .. 5;
like($watched, qr/webhook worker/, 'the worker is seen');
unlike($watched, qr/$any/, 'pg_stat_activity');
ok(wait_for_sql($node, q{SELECT count(*) = 20 FROM webhook.webhook_log WHERE status = 'Failed' AND action_id = 1}), 'the echo answered');
ok(wait_for_sql($node, q{SELECT count(*) = 20 FROM webhook.webhook_log WHERE status = 'Success' AND action_id = 2}), 'and the other one');
ok(wait_for_sql($node, q{SELECT count(DISTINCT status) = 2 FROM webhook.mail_log WHERE status IN ('Success', 'Failed')}), 'mails went out');
my @requests = grep { $_->{path} eq '/echo' } $receiver->requests;
is($receiver->header($requests[0], 'authorization'), "Basic $secret{authorization}", 'the receiver was told, of course');
my $answers = $node->safe_psql('postgres', 'SELECT t.response_body FROM webhook.webhook_attempt t JOIN webhook.webhook_log USING (log_id) WHERE action_id = 1');
like($answers, qr/^authorization: Basic \*{20}$/mi, 'what it said of it is not kept');
like($answers, qr/^credentials: crm:\*{11}$/m, 'nor what it made of it');
unlike($answers, qr/$any/, 'nor anything else');

# The credentials that were sent are hidden, though others are given while the
# answer is waited for.
my $late = $node->safe_psql('postgres', qq{$quietly
	SET ROLE alice;
	SELECT webhook.create_workflow('late', 'deal', 'update');
	SELECT webhook.create_action('late', 'echo', '${\$receiver->url('/slow-echo?ms=2000')}', username => 'crm', password => '$secret{password}')});
$late =~ s/.*\n//s;
$node->safe_psql('postgres', q{UPDATE deal SET name = 'y' WHERE id = 1});
ok(wait_for_sql($node, "SELECT in_flight = 1 FROM webhook.stat_action WHERE action_id = $late"), 'a request is in flight');
$node->safe_psql('postgres', "SELECT webhook.alter_action($late, title => repeat('another title ', 4), username => 'other', password => 'different')");
$node->safe_psql('postgres', q{UPDATE deal SET name = 'z' WHERE id = 2});
ok(wait_for_sql($node, "SELECT count(*) = 2 FROM webhook.webhook_log WHERE action_id = $late AND status = 'Failed'"), 'it is answered');
$answers = $node->safe_psql('postgres', "SELECT t.response_body FROM webhook.webhook_attempt t JOIN webhook.webhook_log USING (log_id) WHERE action_id = $late");
like($answers, qr/^credentials: crm:\*{11}$/m, 'by whom that is known to be secret');
unlike($answers, qr/$any/, 'and not kept');
$node->safe_psql('postgres', q{SELECT webhook.drop_workflow('late')});
unlike(join("\n", map { "$_->{subject} $_->{text}" } $server->mails), qr/$any/, 'mails');

# However it is spelled, and wherever the log's part of the answer ends.
my $spelled = $node->safe_psql('postgres', qq{$quietly
	SET ROLE alice;
	SELECT webhook.create_workflow('spelled', 'deal', 'update');
	SELECT webhook.create_action('spelled', 'echo', '${\$receiver->url('/spelled-echo')}', username => 'crm?', password => E'geh/"im?\\303\\251~>>')});
$spelled =~ s/.*\n//s;
$node->safe_psql('postgres', q{UPDATE deal SET name = 'y' WHERE id = 1});
ok(wait_for_sql($node, "SELECT status FROM webhook.webhook_log WHERE action_id = $spelled", 'Failed'), 'it is answered');
$answers = $node->safe_psql('postgres', "SELECT t.response_body FROM webhook.webhook_attempt t JOIN webhook.webhook_log USING (log_id) WHERE action_id = $spelled");
like($answers, qr/\A"\*+"\n"\*+"\n\*+\n"\*+"\n"\*+"\n\*+\n\.+\*+\z/, 'credentials are hidden in every spelling');
is(length $answers, 4096, 'up to where the answer is cut');
$node->safe_psql('postgres', q{SELECT webhook.drop_workflow('spelled')});

# All that there is to see, by the owner and by one who may read everything.
for my $role (qw(alice snoop))
{
	my @relations = split /\n/, $node->safe_psql('postgres', q{
		SELECT c.oid::regclass FROM pg_class c WHERE relkind IN ('r', 'v', 'm', 'S', 'p')
			AND (relnamespace = 'webhook'::regnamespace OR relname IN ('pg_stat_activity', 'pg_stat_statements', 'pg_settings', 'pg_stats', 'pg_description'))
			AND has_table_privilege(oid, 'SELECT')}, extra_params => [ '-U', $role ]);

	cmp_ok(scalar(@relations), '>', $role eq 'snoop' ? 20 : 10, "$role may read from " . @relations);
	my $seen = join "\n", map { $node->safe_psql('postgres', "TABLE $_", extra_params => [ '-U', $role ]) } @relations;
	unlike($seen, qr/$any/, "tables and views ($role)");
	unlike($node->safe_psql('postgres', q{
		SELECT webhook.export(); SELECT * FROM webhook.preview(1, '1'); SELECT webhook.report('1 hour'); SELECT * FROM webhook.health()},
			extra_params => [ '-U', $role ]), qr/$any/, "functions ($role)")
	  if $role eq 'alice';
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM webhook.action_secret', extra_params => [ '-U', 'snoop' ]), '0', 'pg_read_all_data reads none');

# Of what the internal tables have of others' deliveries it sees nothing, either.
$node->safe_psql('postgres', q{INSERT INTO webhook.seen VALUES (1, 'x'); INSERT INTO webhook.mail_note (action_id, log_id, kind, error) VALUES (0, 0, 'x', 'x')});
is($node->safe_psql('postgres', q{SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_class c
	WHERE c.relnamespace = 'webhook'::regnamespace AND c.relkind = 'r' AND NOT c.relrowsecurity}), 'admin', 'tables show what is one\'s own');
is($node->safe_psql('postgres', join(' + ', map { "(SELECT count(*) FROM webhook.$_)" } qw(seen origin mail_note mail_log action_stats action_latency)) =~ s/^/SELECT /r,
	extra_params => [ '-U', 'snoop' ]), '0', 'and nothing else');
is($node->safe_psql('postgres', q{UPDATE webhook.action_secret SET password = 'x'; DELETE FROM webhook.action_secret; SELECT count(*) FROM webhook.action_secret},
	extra_params => [ '-U', 'snoop' ]), '0', 'pg_write_all_data changes none');
is($node->safe_psql('postgres', 'SELECT count(*) FROM webhook.action_secret'), '2', 'they are there');
like($node->safe_psql('postgres', 'SHOW webhook.smtp_password'), qr/$secret{mail}/, 'a superuser sees the mail password');
my ($rc, $out, $err) = $node->psql('postgres', 'SHOW webhook.smtp_password', extra_params => [ '-U', 'alice' ]);
like($err, qr/must be superuser|permission denied/, 'nobody else does');

# The server log, all of it.
my $log = slurp_file($node->logfile);
like($log, qr/INSERT INTO deal/, 'the log has the statements');
my @leaks = grep { /$any/ } split /\n/, $log;
is("@leaks", '', 'and no secret');

# A dump is a superuser's, and has them.
my ($dump) = run_command([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-U', 'postgres', 'postgres' ]);
like($dump, qr/\Q$secret{$_}\E/, "pg_dump carries the secret: $_") for qw(password signing rotated);
$node->command_fails_like([ 'pg_dump', '-U', 'snoop', 'postgres' ], qr/row-level security/, 'nobody else can make one');

# Default privileges give nothing of ours away.
$node->safe_psql('postgres', 'CREATE DATABASE generous');
$node->safe_psql('generous', join(' ', map { "ALTER DEFAULT PRIVILEGES GRANT ALL ON $_ TO snoop, PUBLIC;" } qw(SCHEMAS TABLES SEQUENCES ROUTINES TYPES)));
$node->safe_psql('generous', 'CREATE EXTENSION webhook');
is($node->safe_psql('generous', q{
	SELECT string_agg(DISTINCT what, ', ')
	FROM (SELECT 'schema' AS what, nspacl AS acl FROM pg_namespace WHERE nspname = 'webhook'
		UNION ALL SELECT 'relations', relacl FROM pg_class WHERE relnamespace = 'webhook'::regnamespace
		UNION ALL SELECT 'functions', proacl FROM pg_proc WHERE pronamespace = 'webhook'::regnamespace
		UNION ALL SELECT 'types', typacl FROM pg_type WHERE typnamespace = 'webhook'::regnamespace) o
	CROSS JOIN aclexplode(acl) a WHERE a.grantee <> 'postgres'::regrole}), '', 'default privileges give nothing away');
$node->command_fails_like([ 'psql', '-Xqd', 'generous', '-U', 'snoop', '-c',
	'CREATE TRIGGER snoop BEFORE INSERT ON webhook.action_secret FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()' ],
	qr/permission denied/, 'nobody sees secrets on their way');

done_testing();
