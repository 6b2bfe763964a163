# Where a webhook may go: which addresses, however they are written and whatever
# a name server says; and by which way, whatever the environment says.

use strict;
use warnings;
use utf8;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Encode qw(encode_utf8);
use IO::Socket::INET;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Symbol;
use Test::More;
use Time::HiRes qw(sleep time);
use WebhookTest;

my $dir = $PostgreSQL::Test::Utils::tmp_check;
my $receiver = start_receiver();
my $spy = start_receiver();    # a proxy that nobody has asked us to use
my $port = $receiver->{port};

# A name server's answers; what it says for flip.test differs each time.
my $names = "$dir/names";
PostgreSQL::Test::Utils::append_to_file($names, <<'END');
inside.test 10.1.2.3
mixed.test 169.254.169.254+10.0.0.1+127.0.0.1
flip.test 127.0.0.1 169.254.169.254
second.test 127.0.0.2+127.0.0.1
later.test again again 127.0.0.1
never.test again
gone.test none
crowd.test 127.0.0.1@300
dead.test none@300
patience.test 127.0.0.1@3000 127.0.0.1@3000 127.0.0.1@3000 127.0.0.1
END
my $preload = "$dir/names.so";
PostgreSQL::Test::Utils::run_log([ split(' ', $ENV{CC} || 'cc'), '-shared', '-fPIC', '-o', $preload, "$FindBin::RealBin/../lib/names.c", '-ldl' ])
  or die 'no preload';

# The environment's own wishes.
mkdir "$dir/home";
PostgreSQL::Test::Utils::append_to_file("$dir/home/.netrc", "machine 127.0.0.1 login netrc password netrc\ndefault login netrc password netrc\n");
chmod 0600, "$dir/home/.netrc";
my $proxy_url = 'http://127.0.0.1:' . $spy->{port};
my %environment = (
	HOME => "$dir/home", NETRC => "$dir/home/.netrc",
	http_proxy => $proxy_url, https_proxy => $proxy_url, HTTPS_PROXY => $proxy_url, all_proxy => $proxy_url, ALL_PROXY => $proxy_url,
	WEBHOOK_TEST_NAMES => $names, WEBHOOK_TEST_LOOKUPS => "$dir/lookups", LD_PRELOAD => $preload);

my $node = PostgreSQL::Test::Cluster->new('guard');
$node->init(extra => [ "-E", "UTF8", "--no-locale" ]);
$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'webhook'
fsync = off
webhook.timeout = '2s'
webhook.connect_timeout = '1s'
webhook.max_actions_per_workflow = 100
});
{
	local @ENV{ keys %environment } = values %environment;
	$node->start;
}
$node->safe_psql('postgres', q{
	CREATE EXTENSION webhook;
	CREATE TABLE event (id int PRIMARY KEY, url text);
	SELECT webhook.create_workflow('events', 'event', 'create')});

my $round = 0;

# Send one event to all of the URLs at once; what became of each, by URL.
sub outcomes
{
	my (@urls) = @_;
	my %outcome;

	$round++;
	my $values = join(', ', map { "('" . encode_utf8($_) . "')" } @urls);
	$node->safe_psql('postgres', qq{
		SELECT webhook.drop_action(action_id) FROM webhook.action;
		SELECT webhook.create_action('events', 'send ' || n, u.url, retry_schedule => '{1 day}') FROM (VALUES $values) AS t (url) CROSS JOIN LATERAL (SELECT t.url, row_number() OVER ()) AS u (url, n);
		INSERT INTO event VALUES ($round)});
	ok(wait_for_sql($node, "SELECT count(*) FROM webhook.webhook_log WHERE record_id = '$round' AND attempts > 0 AND status <> 'Dispatched'", scalar @urls), "round $round: all are tried");
	$outcome{ $_->{url} } = $_
	  for rows($node, "SELECT a.url, l.status, l.error FROM webhook.webhook_log l JOIN webhook.action a USING (action_id) WHERE record_id = '$round'");
	return %outcome;
}

# Every range that is refused: its first and its last address.
my @refused = qw(
  0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.1 127.255.255.254
  168.63.129.16 169.254.0.0 169.254.169.254 169.254.255.255 172.16.0.0 172.31.255.255 192.0.0.0 192.0.0.255
  192.0.2.0 192.0.2.255 192.88.99.0 192.88.99.255 192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255
  198.51.100.0 198.51.100.255 203.0.113.0 203.0.113.255 224.0.0.0 239.255.255.255 240.0.0.0 255.255.255.255
  [::] [::1] [::ffff:127.0.0.1] [::ffff:10.0.0.1] [::ffff:7f00:1] [::ffff:169.254.169.254] [::127.0.0.1]
  [64:ff9b::7f00:1] [64:ff9b:1::1] [100::1] [1fff:ffff::1] [4000::1] [fc00::1] [fdff::1] [fe80::1] [fec0::1] [ff02::1]
  [2001::1] [2001:1ff:ffff::1] [2001:db8::1] [2001:db8:ffff::1] [2002::1] [2002:7f00:1::1] [2002:ffff::1] [3fff::1] [3fff:fff::1]);
my %outcome = outcomes(map { "http://$_:$port/range" } @refused);
for my $address (@refused)
{
	like($outcome{"http://$address:$port/range"}->{error}, qr/is not public/, "$address is refused");
}

# Every way to write 127.0.0.1, and names that lead inside.
my @spellings = qw(127.0.0.1 2130706433 0x7f.1 0x7f000001 0177.0.0.1 017700000001 127.1 127.0.1 0x7f.0x0.0x0.0x1 localhost LOCALHOST 0 0.0.0.0 127.0.0.1.);
push @spellings, '①②⑦.⓪.⓪.①', '１２７。０。０。１', '127。0。0。1', '%31%32%37.0.0.1';
my @names = qw(inside.test mixed.test);
%outcome = outcomes(map { "http://$_:$port/spelling" } @spellings, @names);
for my $host (@spellings, @names)
{
	like($outcome{"http://$host:$port/spelling"}->{error}, qr/is not public|could not resolve/, encode_utf8("$host is refused"));
}
is($receiver->count, 0, 'nothing has arrived');

# The same with the loopback interface allowed: so those spellings do lead there.
set_conf($node, "webhook.allowed_networks = '127.0.0.0/8'");
my @local = grep { !/^127\.0\.0\.1\.$|^0$|^0\.0\.0\.0$/ } @spellings;
%outcome = outcomes(map { "http://$_:$port/allowed" } @local);
my @arrived = grep { $outcome{"http://$_:$port/allowed"}->{status} eq 'Success' } @local;
cmp_ok(scalar @arrived, '>=', 12, encode_utf8('once 127.0.0.0/8 is allowed they arrive: ' . join(' ', @arrived)));

# Of several addresses, each one is judged.
%outcome = outcomes("http://mixed.test:$port/mixed", "http://0:$port/mixed", "http://[::1]:$port/mixed");
is($outcome{"http://mixed.test:$port/mixed"}->{status}, 'Success', 'of a name with three addresses the one that is allowed is taken');
like($outcome{"http://0:$port/mixed"}->{error}, qr/0\.0\.0\.0 is not public/, '0 is no spelling of what is allowed');
like($outcome{"http://[::1]:$port/mixed"}->{error}, qr/::1 is not public/, 'nor ::1');

# One at which nobody answers is followed by the next one.
my $deaf = IO::Socket::INET->new(LocalAddr => '127.0.0.2', LocalPort => $port, Listen => 1, ReuseAddr => 1) or die "no socket: $!";
my @waiting = map { IO::Socket::INET->new(PeerAddr => '127.0.0.2', PeerPort => $port, Blocking => 0) } 1 .. 4;
%outcome = outcomes("http://127.0.0.2:$port/second", "http://second.test:$port/second");
like($outcome{"http://127.0.0.2:$port/second"}->{error}, qr/could not connect within 1 s/, 'nobody answers at the first address');
is($outcome{"http://second.test:$port/second"}->{status}, 'Success', 'so the second one is taken');
close $_ for $deaf, @waiting;

# A name server that changes its answer: judged anew at each connection.
%outcome = outcomes("http://flip.test:$port/close");
is(scalar $receiver->requests('/close'), 1, 'first the name leads to what is allowed');
# libcurl keeps an answer for a minute, a reload gives it up.
set_conf($node, q{webhook.timeout = '3s'});
turn_clock($node, "record_id = '$round'");
ok(wait_for_sql($node, "SELECT error FROM webhook.webhook_log WHERE record_id = '$round'", 'address 169.254.169.254 is not public; add it to webhook.allowed_networks if this receiver is meant to be inside'), 'then to what is not: refused');
is(scalar $receiver->requests('/close'), 1, 'and nothing is sent there');

# No name server: not the receiver's failure.  No such name: it is.
$node->safe_psql('postgres', qq{
	SELECT webhook.drop_action(action_id) FROM webhook.action;
	SELECT webhook.create_action('events', 'later', 'http://later.test:$port/later');
	SELECT webhook.create_action('events', 'never', 'http://never.test:$port/never');
	SELECT webhook.create_action('events', 'gone', 'http://gone.test:$port/gone');
	INSERT INTO event VALUES (1000)});
my $of = sub { "SELECT %s FROM webhook.webhook_log JOIN webhook.action USING (action_id) WHERE record_id = '1000' AND title = '$_[0]'" };
ok(wait_for_sql($node, sprintf($of->('gone'), "attempts || ' ' || status || ' ' || error"), '1 Failed could not resolve host name "gone.test"'), 'a name that does not exist costs an attempt');
ok(wait_for_sql($node, sprintf($of->('later'), "attempts || ' ' || status"), '1 Success'), 'a name server that comes back costs none');
ok(wait_for_sql($node, sprintf($of->('never'), "attempts || ' ' || status || ' ' || error"), '0 Queued could not resolve host name "never.test": no name server answers'), 'one that does not costs none, either');
ok(wait_for_sql($node, sprintf($of->('never'), "retry_at < now() + interval '61 s'")), 'and is asked again soon');
is($node->safe_psql('postgres', q{SELECT count(*) FROM webhook.webhook_attempt a JOIN webhook.webhook_log l USING (log_id) WHERE l.record_id = '1000'}), 2, 'what was not sent is no attempt');

# A burst to one name asks for it a few times, not as often as it is long.
sub lookups { return grep { /^$_[0] / } split /\n/, PostgreSQL::Test::Utils::slurp_file("$dir/lookups") }
$node->safe_psql('postgres', qq{
	SELECT webhook.drop_action(action_id) FROM webhook.action;
	SELECT webhook.create_action('events', 'crowd', 'http://crowd.test:$port/crowd');
	SELECT webhook.create_action('events', 'dead', 'http://dead.test:$port/dead', retry_schedule => '{}');
	INSERT INTO event SELECT generate_series(2001, 2200)});
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE record_id::int > 2000 AND status = 'Success'}, '200'), 'a burst to a name that takes 300 ms');
is(scalar $receiver->requests('/crowd'), 200, 'arrives');
cmp_ok(scalar lookups('crowd.test'), '<=', 3, 'it was looked up three times at most');
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE record_id::int > 2000 AND status = 'Failed' AND attempts = 1 AND error = 'could not resolve host name "dead.test"'}, '200'), 'a burst to a name that is not there fails');
cmp_ok(scalar lookups('dead.test'), '<', 40, 'after ' . lookups('dead.test') . ' look-ups');
is(scalar(grep { / ([4-9]|\d\d)$/ && !/^dead.test 4$/ } lookups('(?:crowd|dead).test')), 0, 'three at a time, and one that asks why');

# A look-up that took too long for those who began it is made again for one that may wait longer.
$node->safe_psql('postgres', qq{
	SELECT webhook.drop_action(action_id) FROM webhook.action;
	SELECT webhook.create_action('events', 'impatient', 'http://patience.test:$port/impatient', timeout => '800 ms', retry_schedule => '{}');
	SELECT webhook.create_workflow('patient', 'event', 'create', 'url IS NOT NULL');
	SELECT webhook.create_action('patient', 'patient', 'http://patience.test:$port/patient', retry_schedule => '{}');
	INSERT INTO event SELECT generate_series(3001, 3005)});
my $deadline = time + $WebhookTest::patience;
sleep 0.01 until lookups('patience.test') == 3 || time > $deadline;
is(scalar lookups('patience.test'), 3, 'a name that takes 3 s is looked up');
$node->safe_psql('postgres', q{INSERT INTO event VALUES (3006, 'patient')});
ok(wait_for_sql($node, q{SELECT bool_and(l.status = 'Success' OR l.error IS NOT NULL) FROM webhook.webhook_log l JOIN webhook.action a USING (action_id) WHERE record_id::int > 3000}), 'all have been tried');
like($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT (l.status = 'Success') || ' ' || a.title, ', ') FROM webhook.webhook_log l JOIN webhook.action a USING (action_id) WHERE record_id::int BETWEEN 3001 AND 3005 OR a.title = 'patient'}),
	qr/^false impatient, .*true patient$/, 'the patient one is served');
$node->safe_psql('postgres', q{SELECT webhook.drop_workflow('patient')});

# The environment's proxies and .netrc
is(scalar $spy->requests, 0, 'no proxy of the environment is used');
is(scalar(grep { grep { lc $_->[0] eq 'authorization' } @{ $_->{headers} } } $receiver->requests), 0, 'no name of .netrc is sent');

# Our own proxy is where an administrator wants it; what is behind it is for it
# to judge.
set_conf($node, "webhook.proxy = 'http://127.0.0.1:$spy->{port}'\nwebhook.allowed_networks = ''");
%outcome = outcomes('http://example.com/proxied');
is($outcome{'http://example.com/proxied'}->{status}, 'Success', 'webhook.proxy is used');
is(scalar $spy->requests, 1, 'wherever it is');

# But only there, if he says where, and at whatever address its name leads to.
sub through_proxy
{
	my ($error, $path) = @_;

	$round++;
	$path ||= '/proxied';
	$node->safe_psql('postgres', qq{
		SELECT webhook.drop_action(action_id) FROM webhook.action;
		SELECT webhook.create_action('events', 'proxied', 'http://example.com$path');
		INSERT INTO event VALUES ($round)});
	return wait_for_sql($node, "SELECT concat_ws(' ', status, attempts, error) FROM webhook.webhook_log WHERE record_id = '$round'", $error);
}
for my $case ([ '192.0.2.0/24', 'Queued 0 address 127.0.0.1 of the proxy is not in webhook.proxy_networks' ],
	[ '', 'Queued 0 address 127.0.0.1 of the proxy is not in webhook.proxy_networks' ],
	[ '127.0.0.1', 'Success 1' ])
{
	my ($networks, $outcome) = @$case;

	set_conf($node, "webhook.proxy_networks = '$networks'");
	ok(through_proxy($outcome), "webhook.proxy_networks = '$networks'");
}
set_conf($node, "webhook.proxy = 'http://mixed.test:$spy->{port}'");
ok(through_proxy('Success 1'), 'of a proxy with three addresses the one that is listed is taken');
is(scalar $spy->requests, 3, 'the proxy was asked where it may be');
set_conf($node, "webhook.proxy = 'http://mixed.test:$spy->{port}'\nwebhook.proxy_networks = '192.0.2.0/24'");
ok(through_proxy('Queued 0 address 127.0.0.1 of the proxy is not in webhook.proxy_networks'), 'a kept connection is of no use to a proxy that may no longer be there');
is(scalar $spy->requests, 3, 'nothing came through');

# A proxy that is down, or does not know us, is no receiver's failure.
set_conf($node, 'webhook.proxy = \'http://127.0.0.1:' . closed_port() . '\'' . "\nwebhook.proxy_networks = '127.0.0.0/8'");
ok(through_proxy('Queued 0 could not connect to proxy 127.0.0.1: Connection refused'), 'a proxy that is down costs no attempt');
set_conf($node, "webhook.proxy = 'http://127.0.0.1:$spy->{port}'");
ok(through_proxy('Queued 0 proxy answered 407, see webhook.proxy', '/status/407'), 'nor one that wants another name and password');
ok(through_proxy('Failed 1 receiver answered 502 Bad Gateway', '/status/502'), 'one that does not get through to the receiver does');
set_conf($node, "webhook.proxy = ''\nwebhook.proxy_networks = '0.0.0.0/0'");
%outcome = outcomes("http://127.0.0.1:$spy->{port}/direct");
like($outcome{"http://127.0.0.1:$spy->{port}/direct"}->{error}, qr/is not public/, 'without it the same address is refused');
is(scalar $spy->requests('/direct'), 0, 'over a kept connection, too');
set_conf($node, "webhook.allowed_networks = '127.0.0.0/8'");

# So it is with the mail server.
my $mail = start_mail_server();
$node->safe_psql('postgres', q{INSERT INTO webhook.admin VALUES ('dba@example.com')});
for my $case ([ '192.0.2.0/24, 2001:db8::/32', 'Failed 1 address 127.0.0.1 of the mail server is not in webhook.smtp_networks' ],
	[ '127.0.0.0/8', 'Success 1' ],
	[ '0.0.0.0/0', 'Failed 1 no connection to the mail server' ])
{
	my ($networks, $outcome) = @$case;
	my $host = $networks eq '0.0.0.0/0' ? '127.0.0.1' : 'mixed.test';

	$mail->stop if $networks eq '0.0.0.0/0';
	set_conf($node, "webhook.smtp_url = 'smtp://$host:$mail->{port}'\nwebhook.smtp_networks = '$networks'\nwebhook.mail_interval = 0");
	$round++;
	$node->safe_psql('postgres', qq{
		TRUNCATE webhook.mail_log;
		SELECT webhook.drop_action(action_id) FROM webhook.action;
		SELECT webhook.create_action('events', 'fails', 'http://127.0.0.1:$port/status/500');
		INSERT INTO event VALUES ($round)});
	ok(wait_for_sql($node, "SELECT concat_ws(' ', status, attempts, error) LIKE '$outcome%' FROM webhook.mail_log"), "webhook.smtp_networks = '$networks'");
}
is(scalar $mail->mails, 1, 'the mail server was asked where it may be');
set_conf($node, q{webhook.smtp_url = ''});
for my $setting (qw(allowed_networks proxy_networks smtp_networks))
{
	my (undef, undef, $error) = $node->psql('postgres', "ALTER SYSTEM SET webhook.$setting = '10.0.0.1/8'");
	like($error, qr/bits set to the right of the mask/, "webhook.$setting wants blocks");
}

# TLS: a receiver's version and certificate, and our own certificate.
sub certificate
{
	my ($file, $subject, @more) = @_;

	PostgreSQL::Test::Utils::run_log([ 'openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', "/CN=$subject", '-keyout', "$dir/$file.key", '-out', "$dir/$file.crt", @more ])
	  or die 'no certificate';
	return;
}
certificate('server', 'localhost', '-addext', 'subjectAltName=IP:127.0.0.1');
certificate('other', 'localhost', '-addext', 'subjectAltName=DNS:other.example.com');
certificate('client', 'crm');
mkdir "$dir/certificates";
PostgreSQL::Test::Utils::append_to_file("$dir/certificates/crm.pem", PostgreSQL::Test::Utils::slurp_file("$dir/client.crt") . PostgreSQL::Test::Utils::slurp_file("$dir/client.key"));
PostgreSQL::Test::Utils::append_to_file("$dir/both.crt", PostgreSQL::Test::Utils::slurp_file("$dir/server.crt") . PostgreSQL::Test::Utils::slurp_file("$dir/other.crt"));
my $secure = start_receiver(tls => [ "$dir/server.crt", "$dir/server.key" ], client_ca => "$dir/client.crt");
my $wrong = start_receiver(tls => [ "$dir/other.crt", "$dir/other.key" ]);
my $old = start_receiver(tls => [ "$dir/server.crt", "$dir/server.key" ], old_tls => 1);
set_conf($node, "webhook.ca_file = '$dir/both.crt'\nwebhook.certificate_directory = '$dir/certificates'");
%outcome = outcomes(map { "https://127.0.0.1:$_->{port}/tls" } $secure, $wrong, $old);
like($outcome{"https://127.0.0.1:$secure->{port}/tls"}->{error}, qr/certificate|TLS|closed|answer/i, 'a receiver that asks for a certificate gets none by default');
like($outcome{"https://127.0.0.1:$wrong->{port}/tls"}->{error}, qr/certificate of the receiver is not for "127\.0\.0\.1"/, 'a certificate for another name is refused');
like($outcome{"https://127.0.0.1:$old->{port}/tls"}->{error}, qr/TLS/, 'TLS 1.1 is refused: ' . $outcome{"https://127.0.0.1:$old->{port}/tls"}->{error});
is(scalar($secure->requests) + $wrong->requests + $old->requests, 0, 'none of them got anything');
$node->safe_psql('postgres', qq{
	SELECT webhook.drop_action(action_id) FROM webhook.action;
	SELECT webhook.create_action('events', 'mutual', 'https://127.0.0.1:$secure->{port}/mutual', client_certificate => 'crm.pem');
	INSERT INTO event VALUES (2000)});
ok(wait_for_sql($node, q{SELECT status FROM webhook.webhook_log WHERE record_id = '2000'}, 'Success'), 'with client_certificate it is served');

# A receiver that says why, unlike Python's.
for my $case ([ 'receiver requires a client certificate', '-Verify', '1' ],
	[ 'could not agree on a TLS connection: receiver does not speak TLS 1.2 or later', '-tls1_1', '-cipher', 'ALL:@SECLEVEL=0' ])
{
	my ($error, @option) = @$case;
	my $tls_port = closed_port();
	my $server = IPC::Run::start([ 'openssl', 's_server', '-accept', "127.0.0.1:$tls_port", '-quiet', '-cert', "$dir/server.crt", '-key', "$dir/server.key", @option ],
		'<pipe', my $in = Symbol::gensym(), '>', "$dir/s_server.out", '2>&1');
	my $deadline = time + $WebhookTest::patience;
	sleep 0.05 until IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $tls_port) || time > $deadline;
	%outcome = outcomes("https://127.0.0.1:$tls_port/why");
	is($outcome{"https://127.0.0.1:$tls_port/why"}->{error}, $error, "@option: $error");
	$server->signal('TERM');
	close $in;
	$server->finish;
}
$node->safe_psql('postgres', qq{
	SELECT webhook.drop_action(action_id) FROM webhook.action;
	SELECT webhook.create_action('events', 'mutual', 'https://127.0.0.1:$secure->{port}/mutual', client_certificate => 'crm.pem')});

# A key that is encrypted: nobody is asked for its pass phrase.
PostgreSQL::Test::Utils::run_log([ 'openssl', 'pkcs8', '-topk8', '-in', "$dir/client.key", '-out', "$dir/encrypted.key", '-passout', 'pass:geheim' ])
  or die 'no key';
PostgreSQL::Test::Utils::append_to_file("$dir/certificates/encrypted.pem", PostgreSQL::Test::Utils::slurp_file("$dir/client.crt") . PostgreSQL::Test::Utils::slurp_file("$dir/encrypted.key"));
$node->safe_psql('postgres', qq{
	SELECT webhook.alter_action(action_id, client_certificate => 'encrypted.pem', url => 'https://localhost:$secure->{port}/mutual') FROM webhook.action;
	INSERT INTO event VALUES (4001)});
ok(wait_for_sql($node, q{SELECT error ~ 'could not use client certificate ".*encrypted.pem", which must hold a certificate and its key, not encrypted' FROM webhook.webhook_log WHERE record_id = '4001'}), 'an encrypted key is told');
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/pass phrase:/, 'no terminal is asked for what it is encrypted with');
for my $file ('../server.crt', '/etc/passwd', '.', '..', 'a/b', '')
{
	isnt($node->psql('postgres', "SELECT webhook.create_action('events', 'x', 'https://example.com/', client_certificate => '$file')"), 0, "client_certificate \"$file\" is no plain file name") if $file ne '';
}

# Schemes, and users in URLs
for my $url ('file:///etc/passwd', 'ftp://example.com/', 'gopher://example.com/', 'smtp://example.com', 'dict://example.com', 'ldap://example.com', "http://user:secret\@example.com/", 'http:///x', 'javascript:x', '//example.com', 'http://exa mple.com/', 'http://${url}/', '${url}', 'http://example.com:${id}/', 'http${id}://example.com/', 'http://example.com.${url}/', 'http://${url}@example.com/', "http://example.com/\r\nHost: x")
{
	isnt($node->psql('postgres', "SELECT webhook.create_action('events', 'x', \$url\$$url\$url\$)"), 0, "URL refused: $url" =~ s/[\r\n]/?/gr);
}
$node->append_conf('postgresql.conf', 'webhook.allow_http = off');
$node->reload;
ok(wait_for_sql($node, 'SHOW webhook.allow_http', 'off'), 'plain http is switched off');
isnt($node->psql('postgres', q{SELECT webhook.create_action('events', 'x', 'http://example.com/')}), 0, 'and refused');
$node->stop;
done_testing();
