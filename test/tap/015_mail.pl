# Failure mail, over a real mail server: who is told, of what, how often; TLS
# and authentication; a server that is down, hangs or refuses.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Encode;
use Test::More;
use Time::HiRes qw(time);
use WebhookTest;

my $pem = "$PostgreSQL::Test::Utils::tmp_check/mail";
for my $name ('mail', 'other')
{
	PostgreSQL::Test::Utils::run_log([ 'openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2',
		'-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-keyout', "$pem.$name.key", '-out', "$pem.$name.crt" ])
	  or die 'no certificate';
}
my $server = start_mail_server(tls => [ "$pem.mail.crt", "$pem.mail.key" ], auth => 'crm:geheim', require_tls => 1,
	refuse => ['nobody@example.com'], busy => ['busy@example.com']);
my $receiver = start_receiver();
my $node = start_cluster('mail', init => { extra => [ '--encoding', 'UTF8', '--locale', 'C' ] }, conf => qq{
webhook.ca_file = '$pem.mail.crt'
webhook.smtp_url = '${\$server->url}'
webhook.smtp_username = 'crm'
webhook.smtp_password = 'geheim'
webhook.smtp_from = 'Vertrieb Köln <crm\@example.com>'
webhook.mail_interval = '1h'
});
my $busy = $receiver->url('/status/503');

$node->safe_psql('postgres', qq{
	CREATE TABLE person (id int PRIMARY KEY, email text);
	CREATE TABLE deal (id int PRIMARY KEY, name text, owner_id int REFERENCES person, owners text);
	INSERT INTO person VALUES (1, 'ann\@example.com'), (2, 'bob\@example.com'), (3, 'Jürgen\@example.com');
	INSERT INTO webhook.admin VALUES ('root\@example.com', true), ('ops\@example.com', true), ('gone\@example.com', false);
	SELECT webhook.create_workflow('Geschäft', 'deal', owner_email => '\${owner_id.email}');
	SELECT webhook.create_action('Geschäft', 'Rechnung für Köln', '$busy?token=secret', username => 'u', password => 'hunter2')});

sub mails_to
{
	my ($who) = @_;
	return grep { lc $_->{to}[0] eq lc $who } $server->mails;
}

# Wait until no mail is to come soon: notes are gathered, digests and mails sent.
sub wait_for_mail
{
	return wait_for_sql($node, "SELECT NOT EXISTS (SELECT FROM webhook.mail_note)
		AND NOT EXISTS (SELECT FROM webhook.mail_digest WHERE first_at < clock_timestamp() - interval '6 s'
			AND NOT EXISTS (SELECT FROM webhook.mail_log m WHERE m.action_id = mail_digest.action_id AND m.recipient = mail_digest.recipient
				AND m.created_at > clock_timestamp() - current_setting('webhook.mail_interval')::interval))
		AND NOT EXISTS (SELECT FROM webhook.mail_log WHERE status IN ('Queued', 'Dispatched') AND retry_at < clock_timestamp() + interval '30 s')
		AND NOT EXISTS (SELECT FROM webhook.webhook_log WHERE retry_at < clock_timestamp())
		AND (SELECT count(*) FROM webhook.mail_log) >= " . shift);
}

# What fails together is told together.
$node->safe_psql('postgres', q{INSERT INTO deal SELECT i, 'Geschäft ' || i, 1 + i % 2 FROM generate_series(1, 1000) i});
ok(wait_for_mail(4), 'there are mails');
is_deeply([ sort map { $_->{to}[0] } $server->mails ], [ qw(ann@example.com bob@example.com ops@example.com root@example.com) ],
	'1,000 failures make one mail to each active admin and to each owner');
my ($root) = mails_to('root@example.com');
my ($ann) = mails_to('ann@example.com');
my ($bob) = mails_to('bob@example.com');
is($root->{subject}, decode('UTF-8', '[webhook] "Rechnung für Köln" failed for 1000 records of deal'), 'the subject says what and how many, in UTF-8');
is($ann->{subject}, decode('UTF-8', '[webhook] "Rechnung für Köln" failed for 500 records of deal'), 'an owner is told of his own only');
like($root->{text}, qr/and 950 more/, 'the list is cut');
my %listed = map { $_ => 1 } $ann->{text} =~ /record (\d+) /g;
is(scalar(grep { $_ % 2 } keys %listed), 0, 'none of the other owner\'s');
is(scalar(keys %listed), 50, 'fifty are listed');
like($ann->{text}, qr/503/, 'what the receiver said');
like($ann->{text}, qr/is tried again at 20\d\d-/, 'when it is tried again');
like($ann->{text}, qr/is tried again by itself.*SELECT \* FROM webhook\.webhook_log WHERE action_id = 1/s, 'the line to look further');
like($ann->{text}, qr/workflow "\x{47}esch\x{e4}ft" on public\.deal/, 'workflow and module');
unlike(join('', map { $_->{text} } $server->mails), qr/hunter2|secret/, 'no secret');
is_deeply($root->{defects}, [], 'the mail is well-formed');
my %header = map { $_->[0] => $_->[1] } @{ $root->{headers} };
is($header{From}, decode('UTF-8', 'Vertrieb Köln <crm@example.com>'), 'From with its name');
is($root->{from}, 'crm@example.com', 'the envelope has the plain address');
is($header{'Auto-Submitted'}, 'auto-generated', 'no answers are wanted');
like($header{'Message-ID'}, qr/^<webhook\.[\d.]+\@example\.com>$/, 'Message-ID');
ok($root->{tls}, 'over STARTTLS');
is($root->{user}, 'crm', 'authenticated');
is_deeply(row($node, "SELECT status, attempts, retry_at, error FROM webhook.mail_log WHERE recipient = 'root\@example.com'"),
	{ status => 'Success', attempts => 1, retry_at => undef, error => undef }, 'mail_log says so');

# Within the interval nothing more; after it what gathered.
$node->safe_psql('postgres', q{INSERT INTO deal VALUES (2001, 'x', 1)});
ok(wait_for_sql($node, q{SELECT count(*) = 3 FROM webhook.mail_digest}), 'the next failure waits');
is(scalar($server->mails), 4, 'no mail yet');
$node->safe_psql('postgres', q{UPDATE webhook.mail_log SET created_at = created_at - interval '2 hours'; UPDATE webhook.mail_digest SET first_at = first_at - interval '1 hour'});
$node->append_conf('postgresql.conf', "webhook.mail_on = 'first,final'");
$node->reload;
ok(wait_for_mail(7), 'the interval is over');
is(scalar(mails_to('ann@example.com')), 2, 'a second mail');
is((mails_to('ann@example.com'))[1]{subject}, decode('UTF-8', '[webhook] "Rechnung für Köln" failed for deal 2001'), 'about one record');
like((mails_to('ann@example.com'))[1]{text}, qr/tried again by itself.*SELECT webhook\.retry\(1001\)/s, 'and how to send it again');

# mail_on: between first and final nothing; final is told.
sub clear
{
	$node->safe_psql('postgres', q{TRUNCATE webhook.mail_log, webhook.mail_note, webhook.mail_digest, webhook.mail_digest_item; DELETE FROM webhook.webhook_log});
}
sub set
{
	my (%setting) = @_;
	$node->append_conf('postgresql.conf', "$_ = '$setting{$_}'") for sort keys %setting;
	$node->reload;
	wait_for_sql($node, join ' AND ', 'SELECT true', map { "current_setting('$_') = '$setting{$_}'" } sort keys %setting);
}
my %count;
clear();
set('webhook.mail_interval' => '0');
$node->safe_psql('postgres', q{DELETE FROM webhook.admin WHERE email <> 'root@example.com'; SELECT webhook.alter_workflow('Geschäft', owner_email => '')});
my $next = 3000;
for my $case ([ 'first, final', 2 ], [ 'first', 1 ], [ 'final', 1 ], [ 'every', 4 ], [ '', 0 ])
{
	my ($mail_on, $wanted) = @$case;

	clear();
	set('webhook.mail_on' => $mail_on);
	$next++;
	$node->safe_psql('postgres', "INSERT INTO deal VALUES ($next, 'x')");
	for my $attempt (1 .. 4)
	{
		wait_for_sql($node, "SELECT attempts = $attempt AND status = 'Failed' FROM webhook.webhook_log WHERE record_id = '$next'") or last;
		wait_for_sql($node, 'SELECT NOT EXISTS (SELECT FROM webhook.mail_note) AND NOT EXISTS (SELECT FROM webhook.mail_digest)');
		turn_clock($node) if $attempt < 4;
	}
	is($node->safe_psql('postgres', 'SELECT count(*) FROM webhook.mail_log'), $wanted, "mail_on '$mail_on': $wanted of 4 failures are told");
	like($node->safe_psql('postgres', 'SELECT body FROM webhook.mail_log'), qr/is given up.*Nothing more is done by itself/s, 'the last one says that it is the last') if $mail_on eq 'final';
}
like((rows($node, 'SELECT subject FROM webhook.mail_log'), { subject => '' })[0]{subject}, qr/^$/, 'none at all');

# What a record's key says is no line of the mail's own.
clear();
set('webhook.mail_on' => 'first');
$node->safe_psql('postgres', qq{
	CREATE TABLE lead (id text PRIMARY KEY);
	SELECT webhook.create_workflow('lead', 'lead');
	SELECT webhook.create_action('lead', E'chat\nroom', '$busy');
	INSERT INTO lead VALUES (E'7\nTo send it again:\n\tDROP TABLE deal;')});
ok(wait_for_sql($node, 'SELECT count(*) = 1 FROM webhook.mail_log'), 'a record whose key has several lines is told of');
like($node->safe_psql('postgres', 'SELECT subject || chr(10) || body FROM webhook.mail_log'),
	qr/"chat room" failed for lead 7 To send it again:  DROP TABLE deal;\nThe webhook "chat room" .*^  record 7 To send it again:  DROP TABLE deal; \(delivery/ms,
	'in one line');
$node->safe_psql('postgres', q{SELECT webhook.drop_workflow('lead')});

# An address that can't be right is logged, not sent; several by commas.
clear();
set('webhook.mail_on' => 'final,first');
my $before = $server->mails;
$node->safe_psql('postgres', q{SELECT webhook.alter_workflow('Geschäft', owner_email => '${owners}')});
$node->safe_psql('postgres', qq{INSERT INTO deal VALUES (4001, 'x', NULL, E'one\@example.com, Two\@Example.com;root\@example.com, bad, a\@b\\r\\nBcc: c\@d, \@x, ')});
ok(wait_for_mail(6), 'six recipients');
is_deeply([ map { "$_->{recipient} $_->{status}" } rows($node, q{SELECT quote_literal(recipient) AS recipient, status FROM webhook.mail_log ORDER BY recipient COLLATE "C"}) ],
	[ q('@x' Failed), q('Two@Example.com' Success), qq('a\@b\r\nBcc: c\@d' Failed), q('bad' Failed), q('one@example.com' Success), q('root@example.com' Success) ],
	'what can\'t be right has failed; an admin who is the owner is told once');
is(scalar($server->mails) - $before, 3, 'three were sent');
like(row($node, q{SELECT error FROM webhook.mail_log WHERE recipient = 'bad'})->{error}, qr/can't be a mail address/, 'with a reason');

# A subject is one line, whatever a title says.
clear();
$before = $server->mails;
$node->safe_psql('postgres', q{SELECT webhook.alter_workflow('Geschäft', owner_email => ''), webhook.alter_action(1, title => E'bill\r\nBcc: evil@example.com\r\n\r\n<b>')});
$node->safe_psql('postgres', q{INSERT INTO deal VALUES (4010, 'x')});
ok(wait_for_mail(1), 'a title with line breaks');
my $odd = ($server->mails)[-1];
is(scalar($server->mails), $before + 1, 'makes one mail');
is_deeply([ $odd->{to}, [ grep { lc eq 'bcc' } map { $_->[0] } @{ $odd->{headers} } ], $odd->{defects} ], [ ['root@example.com'], [], [] ], 'to nobody else, and nothing but a subject');
like($odd->{text}, qr/webhook/, 'and the text is where it belongs');
$node->safe_psql('postgres', q{SELECT webhook.alter_workflow('Geschäft', owner_email => '${owners}'), webhook.alter_action(1, title => 'Rechnung für Köln')});

# A server that refuses a recipient, until later or for good.
clear();
$node->safe_psql('postgres', q{INSERT INTO deal VALUES (4002, 'x', NULL, 'nobody@example.com,busy@example.com')});
ok(wait_for_sql($node, q{SELECT count(*) = 3 FROM webhook.mail_log WHERE attempts = 1}), 'tried');
is_deeply([ map { "$_->{recipient} $_->{status} $_->{again}" } rows($node, 'SELECT recipient, status, coalesce(extract(epoch FROM retry_at - clock_timestamp()) BETWEEN 40 AND 61, false)::text AS again FROM webhook.mail_log ORDER BY 1') ],
	[ 'busy@example.com Failed true', 'nobody@example.com Failed false', 'root@example.com Success false' ], '4xx is tried again in a minute, 5xx not');
like(row($node, q{SELECT error FROM webhook.mail_log WHERE recipient = 'nobody@example.com'})->{error}, qr/550 5\.1\.1 no such user/, 'with the server\'s words');

# What fails while it is queued is told, too.
clear();
$node->safe_psql('postgres', q{UPDATE webhook.action SET parameters = NULL;
	SELECT webhook.alter_workflow('Geschäft', owner_email => '${owner_id.email}');
	SELECT webhook.alter_action(1, parameters => '{"x": "${= 1 / (id - 4003)}"}')});
$node->safe_psql('postgres', q{INSERT INTO deal VALUES (4003, 'x', 3)});
ok(wait_for_mail(2), 'mails of a delivery that was never sent');
my $row = row($node, q{SELECT body FROM webhook.mail_log WHERE recipient LIKE 'J%'});
like($row->{body}, qr/division by zero\n    is given up/, 'with its reason');

# An owner whose address can't be computed: it is told why.
clear();
$node->safe_psql('postgres', q{SELECT webhook.alter_workflow('Geschäft', owner_email => '${= lower((1 / (id - 4006))::text)}'), webhook.alter_action(1, parameters => '{}');
	INSERT INTO deal VALUES (4006, 'x')});
ok(wait_for_mail(1), 'an admin is told of a delivery whose owner is not known');
like(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/owners of records can't be told of failures by workflow "Geschäft": "\$\{= lower\(\(1 \/ \(id - 4006\)\)::text\)\}" could not be computed: division by zero/, 'the server log says why');
$node->safe_psql('postgres', q{SELECT webhook.alter_workflow('Geschäft', owner_email => '${owner_id.email}')});

# 410 disables the action and tells the admins, whatever mail_on says.
clear();
set('webhook.mail_on' => '');
my $gone = $receiver->url('/gone');
$node->safe_psql('postgres', qq{SELECT webhook.alter_action(1, url => '$gone', parameters => '{}'); INSERT INTO deal VALUES (4004, 'x')});
ok(wait_for_mail(1), 'told of 410');
like(row($node, 'SELECT body FROM webhook.mail_log')->{body}, qr/action is disabled.*enable_action\(1\).*gone for good/s, 'that the action is disabled, and what to do');
$node->safe_psql('postgres', "SELECT webhook.alter_action(1, url => '$busy'), webhook.enable_action(1)");

# The other ways to talk to a server.
set('webhook.mail_on' => 'first,final');
my $id = 5000;
sub send_one
{
	clear();
	$id++;
	$node->safe_psql('postgres', "INSERT INTO deal VALUES ($id, 'x')");
	wait_for_sql($node, q{SELECT attempts = 1 AND status <> 'Dispatched' FROM webhook.mail_log});
	return row($node, 'SELECT status, error, retry_at IS NOT NULL AS again FROM webhook.mail_log');
}
for my $case ([ { tls => [ "$pem.mail.crt", "$pem.mail.key" ], smtps => 1, auth => 'crm:geheim' }, 'TLS' ],
	[ { tls => [ "$pem.mail.crt", "$pem.mail.key" ], auth => 'crm:geheim', only => 'PLAIN' }, 'AUTH PLAIN' ],
	[ { tls => [ "$pem.mail.crt", "$pem.mail.key" ], auth => 'crm:geheim', only => 'LOGIN' }, 'AUTH LOGIN' ])
{
	my ($option, $what) = @$case;
	my $other = start_mail_server(%$option);

	set('webhook.smtp_url' => $other->url);
	is(send_one()->{status}, 'Success', $what);
	my ($mail) = $other->mails;
	ok($mail && $mail->{tls} && $mail->{user} eq 'crm', "$what: encrypted and authenticated");
	is($mail->{mechanism}, $option->{only}, "$what: the mechanism") if $option->{only};
}
for my $case ([ { tls => [ "$pem.other.crt", "$pem.other.key" ], smtps => 1 }, qr/TLS connection to the mail server failed/, 'TLS with a wrong certificate' ],
	[ { tls => [ "$pem.other.crt", "$pem.other.key" ] }, qr/TLS connection to the mail server failed/, 'STARTTLS with a wrong certificate' ],
	[ { tls => [ "$pem.mail.crt", "$pem.mail.key" ], auth => 'crm:anders' }, qr/refused the user name or password/, 'a wrong password' ],
	[ {}, qr/offers no TLS/, 'a user name without TLS' ])
{
	my ($option, $error, $what) = @$case;
	my $other = start_mail_server(%$option);

	set('webhook.smtp_url' => $other->url);
	my $row = send_one();
	is($row->{status}, 'Failed', "$what fails");
	like($row->{error}, $error, "$what: the reason");
	is($row->{again}, 'true', "$what is tried again") if !ref $row->{again};
	is(scalar($other->mails), 0, "$what: nothing was sent");
}

# Only where the administrator says that it may be.
{
	set('webhook.smtp_networks' => '192.0.2.0/24, 2001:db8::/32', 'webhook.smtp_url' => $server->url);
	my $row = send_one();
	like("$row->{status} $row->{error}", qr/^Failed address \S+ of the mail server is not in webhook\.smtp_networks$/, 'a mail server elsewhere is not connected to');
	set('webhook.smtp_networks' => '127.0.0.0/8, ::1');
	is(send_one()->{status}, 'Success', 'one that is where it may be is');
}

# A server that hangs delays no webhook; one that is down loses no mail.
my $hanging = start_mail_server(hang => 1);
set('webhook.smtp_url' => $hanging->url);
clear();
my $ok = $receiver->url('/ok');
$node->safe_psql('postgres', q{INSERT INTO deal VALUES (6000, 'x')});
ok(wait_for_sql($node, q{SELECT count(*) = 1 FROM webhook.mail_log WHERE status = 'Dispatched'}), 'a mail hangs');
$node->safe_psql('postgres', "SELECT webhook.alter_action(1, url => '$ok')");
my $start = time;
$node->safe_psql('postgres', q{INSERT INTO deal SELECT i, 'x' FROM generate_series(6001, 6200) i});
ok(wait_for_sql($node, q{SELECT count(*) = 200 FROM webhook.webhook_log WHERE status = 'Success'}), 'webhooks go on');
cmp_ok(time - $start, '<', 10, 'at once');
is(row($node, 'SELECT status FROM webhook.mail_log')->{status}, 'Dispatched', 'while the mail hangs');
$server->stop;
set('webhook.smtp_url' => $server->url, 'webhook.smtp_username' => 'crm');
$node->stop('immediate');
$node->start;
ok(wait_for_sql($node, q{SELECT attempts = 1 AND status = 'Failed' AND error LIKE 'no connection to the mail server%' FROM webhook.mail_log}),
	'after a crash the mail is tried again, and the server is down');
$server->start_again;
my $taken = $server->mails;
$node->safe_psql('postgres', q{UPDATE webhook.mail_log SET retry_at = clock_timestamp(); UPDATE webhook.webhook_log SET error = error});
$node->reload;
ok(wait_for_sql($node, q{SELECT status = 'Success' FROM webhook.mail_log}), 'it is sent once the server is back');
is(scalar($server->mails), $taken + 1, 'once');

# Where the database does not know its encoding, no text keeps mails from being sent.
$node->safe_psql('postgres', q{CREATE DATABASE ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0});
$node->safe_psql('ascii', qq{
	CREATE EXTENSION webhook;
	CREATE TABLE deal (id text PRIMARY KEY);
	INSERT INTO webhook.admin VALUES ('ascii\@example.com');
	SELECT webhook.create_workflow('odd', 'deal');
	SELECT webhook.create_action('odd', E'caf\\351', '$busy');
	INSERT INTO deal VALUES (E'\\351')});
ok(wait_for_sql($node, q{SELECT status = 'Success' FROM webhook.mail_log}, 't', 'ascii'), 'a mail of a database in SQL_ASCII');
is((mails_to('ascii@example.com'))[0]{subject}, "[webhook] \"caf\x{fffd}\" failed for deal \x{fffd}", 'what is no text is replaced');

# Who sees what, and the settings.
$node->safe_psql('postgres', q{CREATE ROLE other; GRANT USAGE ON SCHEMA webhook TO other});
is($node->safe_psql('postgres', q{SET ROLE other; SELECT count(*) FROM webhook.mail_log}), 0, 'another role sees no mails');
isnt($node->psql('postgres', q{SET ROLE other; SHOW webhook.smtp_password}), 0, 'nor the password');
for my $bad ([ 'mail_on', 'sometimes' ], [ 'smtp_url', 'mail.example.com' ], [ 'smtp_url', 'http://x' ], [ 'smtp_url', 'smtp://' ], [ 'smtp_url', 'smtp://mail.example.com:99999' ], [ 'smtp_from', 'nobody' ])
{
	my ($rc, $out, $err) = $node->psql('postgres', "ALTER SYSTEM SET webhook.$bad->[0] = '$bad->[1]'");
	like($err, qr/invalid value for parameter "webhook.$bad->[0]"/, "webhook.$bad->[0] can't be \"$bad->[1]\"");
}
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/geheim/, 'the password is nowhere in the log');
$node->stop;
done_testing();
