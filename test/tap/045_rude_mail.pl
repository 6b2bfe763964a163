# Mail servers that break the rules: whatever they do at whichever step, webhooks go
# on, signals are obeyed, no mail is lost, and what is told of it is plain.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Encode;
use Test::More;
use Time::HiRes qw(time);
use WebhookTest;

my $pem = "$PostgreSQL::Test::Utils::tmp_check/rude";
PostgreSQL::Test::Utils::run_log([ 'openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost',
	'-addext', 'subjectAltName=DNS:localhost', '-keyout', "$pem.key", '-out', "$pem.crt" ]) or die 'no certificate';
my $receiver = start_receiver(terse => 1);
my $node = start_cluster('rude_mail', init => { extra => [ '--encoding', 'UTF8', '--locale', 'C' ] }, conf => qq{
webhook.ca_file = '$pem.crt'
webhook.smtp_from = '"Sales, \\\\"Inc.\\\\" (EU)" <crm\@example.com>'
webhook.mail_interval = 0
webhook.retry_schedule = ''
});
my $ok = $receiver->url('/ok');
my $bad = $receiver->url('/status/500');

sub sql { return $node->safe_psql('postgres', shift) }

sub set
{
	my (%setting) = @_;

	sql("ALTER SYSTEM SET $_ = '$setting{$_}'") for sort keys %setting;
	$node->reload;
	wait_for_sql($node, join ' AND ', 'SELECT true', map { "current_setting('$_') = '$setting{$_}'" } sort keys %setting);
	return;
}

sql(qq{
	INSERT INTO webhook.admin VALUES ('dba\@example.com');
	CREATE TABLE bad (id int PRIMARY KEY, owner text); CREATE TABLE good (id int PRIMARY KEY);
	SELECT webhook.create_workflow('bad', 'bad', owner_email => '\${owner}'); SELECT webhook.create_action('bad', 'fail', '$bad');
	SELECT webhook.create_workflow('good', 'good'); SELECT webhook.create_action('good', 'send', '$ok')});

# One failure, and what becomes of its mail to the admin.
my $id = 0;
my @servers;
sub fail_one
{
	my ($server, %login) = @_;

	push @servers, $server;
	sql('TRUNCATE webhook.mail_log, webhook.mail_note, webhook.mail_digest, webhook.mail_digest_item');
	set('webhook.smtp_url' => $server->url, 'webhook.smtp_username' => '', %login);
	$id++;
	sql("INSERT INTO bad VALUES ($id)");
	return;
}

sub mail_is
{
	my ($wanted, $what) = @_;

	wait_for_sql($node, q{SELECT count(*) = 1 FROM webhook.mail_log WHERE attempts = 1 AND status <> 'Dispatched'});
	return is(sql(q{SELECT concat_ws(' ', status, (retry_at IS NOT NULL)::text, error) FROM webhook.mail_log}), $wanted, $what);
}

# Webhooks of now, and a reload, while a mail is under way.
my $good = 0;
sub goes_on
{
	my ($what) = @_;
	my $start = time;

	sql(qq{INSERT INTO good SELECT generate_series($good + 1, $good + 50)});
	$good += 50;
	ok(wait_for_sql($node, qq{SELECT count(*) = $good FROM webhook.webhook_log WHERE action_id = 2 AND status = 'Success'}), "$what: webhooks go on");
	return cmp_ok(time - $start, '<', 5, "$what: at once");
}

sub wait_for_mails
{
	my ($server, $n) = @_;
	my $deadline = time + $WebhookTest::patience;

	while ($server->mails < $n && time < $deadline) { Time::HiRes::sleep(0.05) }
	return is(scalar($server->mails), $n, 'the server has the mail');
}

# After the whole mail was sent
my $slow = start_mail_server(rude => 'slow-end');
fail_one($slow);
wait_for_mails($slow, 1);
goes_on('a server that thinks about the mail');
is(sql('SELECT status FROM webhook.mail_log'), 'Dispatched', 'which it does still');
mail_is('Success false', 'until it says yes');
is(scalar($slow->mails), 1, 'once');
is_deeply([ ($slow->mails)[0]{defects} ], [ [] ], 'the mail is well-formed');
is_deeply([ map { $_->[1] } grep { $_->[0] eq 'From' } @{ ($slow->mails)[0]{headers} } ], [ '"Sales, \\"Inc.\\" (EU)" <crm@example.com>' ],
	'a sender\'s name with commas is one name');

my $silent = start_mail_server(rude => 'no-end');
fail_one($silent);
wait_for_mails($silent, 1);
goes_on('a server that never says yes');
my $tame = start_mail_server();
set('webhook.smtp_url' => $tame->url);
my $start = time;
$node->restart;
cmp_ok(time - $start, '<', 5, 'a restart does not wait for it');
ok(wait_for_sql($node, q{SELECT status = 'Success' FROM webhook.mail_log}), 'the mail is sent again');

my $cutter = start_mail_server(rude => 'cut-end');
fail_one($cutter);
mail_is('Failed true mail server closed the connection without saying whether it has taken the mail', 'a connection cut at the end');

# At other steps
my $stay = start_mail_server(rude => 'no-bye');
fail_one($stay);
mail_is('Success false', 'QUIT need not be answered');
goes_on('a server that does not answer QUIT');
fail_one(start_mail_server(rude => 'long-words'));
mail_is('Failed false mail server: 550 5.1.1 There is 5.1.1 no such user; 5.1.1 see https://example.com/', 'a reply of several lines is told whole');
fail_one(start_mail_server(rude => 'babble'));
mail_is('Failed true mail server\'s answer does not end', 'one that does not end is not listened to');

# Logging in
my %login = ('webhook.smtp_username' => 'crm', 'webhook.smtp_password' => 'correct horse');
my %tls = (smtps => 1, tls => [ "$pem.crt", "$pem.key" ]);
fail_one(start_mail_server(rude => 'repeat', %tls), %login);
mail_is('Failed true mail server refused the user name or password: 535 5.7.8 Credentials are bad: ************************ 5.7.8 ask postmaster',
	'credentials that the server repeats are not told');
fail_one(start_mail_server(rude => 'refuse-hang', %tls), %login);
mail_is('Failed true mail server refused the user name or password: 535 5.7.8 Credentials are bad 5.7.8 ask postmaster', 'a server that refuses and then hangs');
goes_on('it');
fail_one(start_mail_server(rude => 'odd-login', %tls), %login);
mail_is('Failed true mail server offers no way to log in that is known here', 'no mechanism in common');
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/correct horse|Y29ycmVjdCBob3JzZQ|AGNybQBjb3JyZWN0IGhvcnNl/, 'no credentials in the server log');

# Addresses with letters that are not ASCII's
my $ascii = start_mail_server(ascii => 1);
sub send_to
{
	my ($recipient) = @_;

	sql(qq{TRUNCATE webhook.mail_log, webhook.mail_note, webhook.mail_digest, webhook.mail_digest_item; DELETE FROM webhook.admin});
	set('webhook.smtp_url' => $ascii->url, 'webhook.smtp_username' => '');
	$id++;
	sql("INSERT INTO bad VALUES ($id, '$recipient')");
	return;
}
send_to('kai@müller.example');
mail_is('Success false', 'a host name by IDNA');
is_deeply([ map { $_->{to} } ($ascii->mails)[-1] ], [ ['kai@xn--mller-kva.example'] ], 'which any server takes');
unlike(MIME::Base64::decode_base64(($ascii->mails)[-1]{raw}), qr/[^\x00-\x7f]/, 'the whole mail is ASCII');
send_to('jürgen@example.com');
mail_is('Failed false mail server takes no address with other letters than those of ASCII (it lacks SMTPUTF8)', 'a name in front of it needs SMTPUTF8');
set('webhook.smtp_url' => $tame->url);

# Ann is Ann, however she is written; and who was told is known as long as it counts.
sql(qq{TRUNCATE webhook.mail_log, webhook.mail_note, webhook.mail_digest, webhook.mail_digest_item});
my $before = $tame->mails;
set('webhook.mail_interval' => '1h');
sql(q{INSERT INTO bad SELECT 1000 + i, CASE WHEN i % 2 = 0 THEN 'Ann@Example.com' ELSE 'ann@example.com' END FROM generate_series(1, 10) i});
ok(wait_for_sql($node, q{SELECT count(*) = 1 FROM webhook.mail_log WHERE status = 'Success'}), 'one mail');
is(($tame->mails)[-1]{subject}, '[webhook] "fail" was given up for 10 records of bad', 'to both of her');
set('webhook.log_retention' => '1s');
sql(q{INSERT INTO bad SELECT 2000 + i, 'ANN@example.com' FROM generate_series(1, 10) i; UPDATE webhook.mail_log SET completed_at = completed_at - interval '10 min'});
ok(wait_for_sql($node, q{SELECT bool_and(n = 10) FROM webhook.mail_digest}), 'the next ones wait');
$node->restart;
ok(wait_for_sql($node, q{SELECT NOT EXISTS (SELECT FROM webhook.webhook_log WHERE action_id = 2)}), 'what is old is deleted');
is(sql(q{SELECT count(*) FROM webhook.mail_log}), 1, 'but not who was told just now');
is(scalar($tame->mails), $before + 1, 'no second mail within the interval');

# A proxy that is down is no receiver's failure, and costs no attempt; but it is told of.
sql(q{TRUNCATE webhook.mail_log, webhook.mail_digest, webhook.mail_digest_item; INSERT INTO webhook.admin VALUES ('dba@example.com', true), ('DBA@example.com', true), ('ops@example.com', true), ('gone@example.com', false)});
set('webhook.proxy' => 'http://127.0.0.1:' . closed_port());
my $offset = -s $node->logfile;
my $told = $tame->mails;
sql(qq{INSERT INTO good SELECT generate_series(5001, 5005)});
ok(wait_for_sql($node, q{SELECT state || ': ' || last_error FROM webhook.stat_worker}, 'backoff: could not connect to proxy 127.0.0.1: Connection refused'), 'the worker says so');
is(sql(q{SELECT status FROM webhook.health() WHERE "check" = 'worker'}), 'critical', 'and health');
is(sql(q{SELECT status FROM webhook.health() WHERE "check" = 'settings'}), 'ok', 'nothing else is wrong');
$node->reload;
ok(wait_for_sql($node, q{SELECT count(*) = 2 FROM webhook.mail_log WHERE status = 'Success'}), 'each active admin has a mail');
my ($mail) = ($tame->mails)[-1];
is($mail->{subject}, '[webhook] no webhook can be sent', 'what is wrong');
like($mail->{text}, qr/could not connect to proxy 127\.0\.0\.1: Connection refused.*Waiting:  5 deliveries/s, 'why, and how many wait');
is(sql('SELECT DISTINCT attempts FROM webhook.webhook_log WHERE action_id = 2'), 0, 'no attempt');
$node->reload;
set('webhook.proxy' => '');
ok(wait_for_sql($node, q{SELECT state = 'running' FROM webhook.stat_worker}), 'it is mended');
is(scalar($tame->mails), $told + 2, 'which was told once');
is_deeply([ PostgreSQL::Test::Utils::slurp_file($node->logfile, $offset) =~ /(?:WARNING|LOG):  (webhooks (?:can't be|are) sent [a-z]+)/g ],
	[ 'webhooks can\'t be sent since', 'webhooks are sent again' ], 'as the server log tells');

# Another one soon after is told of as well, once the interval has passed.
set('webhook.proxy' => 'http://127.0.0.1:' . closed_port());
sql(qq{INSERT INTO good SELECT generate_series(5006, 5010)});
ok(wait_for_sql($node, q{SELECT state = 'backoff' FROM webhook.stat_worker}), 'the proxy is down again');
$node->reload;
is(scalar($tame->mails), $told + 2, '... which nobody is told of so soon');
sql(q{UPDATE webhook.mail_log SET created_at = created_at - interval '1 day'});
$node->reload;
ok(wait_for_sql($node, q{SELECT count(*) = 4 FROM webhook.mail_log WHERE status = 'Success'}), '... but later');
set('webhook.proxy' => '');
ok(wait_for_sql($node, q{SELECT state = 'running' FROM webhook.stat_worker}), '... and it is mended');

for my $from ('nobody', 'a b@example.com', 'x@example.com, y@example.com', 'CRM <crm>')
{
	my ($rc, $out, $err) = $node->psql('postgres', "ALTER SYSTEM SET webhook.smtp_from = '$from'");
	like($err, qr/invalid value for parameter "webhook.smtp_from"/, "\"$from\" can't send mails");
}
$node->stop;
done_testing();
