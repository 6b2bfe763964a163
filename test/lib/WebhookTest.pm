# WebhookTest.pm
#	  What the TAP tests share: a cluster that has the extension, a receiver and
#	  what it got, the log as Perl data, and the clock's hand.

package WebhookTest;

use strict;
use warnings;

use Exporter 'import';
use File::Basename qw(dirname);
use IO::Socket::INET;
use IPC::Run;
use JSON::PP;
use MIME::Base64;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Symbol;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(
  start_cluster
  start_receiver
  start_mail_server
  rows
  row
  wait_for_sql
  wait_for_delivery
  turn_clock
  set_clock
  start_with_clock
  closed_port
  set_conf
  worker_pid
  kill_worker
);

# Nothing here takes so long unless it hangs.
our $patience = $ENV{PG_TEST_TIMEOUT_DEFAULT} || 60;

my $json = JSON::PP->new->utf8->allow_bignum;

# A started cluster that preloads the library and may send to the loopback
# interface, with the extension in database postgres unless extension => 0.
sub start_cluster
{
	my ($name, %option) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(%{ $option{init} || {} });
	$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'webhook'
webhook.allowed_networks = '127.0.0.0/8, ::1/128'
fsync = off
log_statement = none
max_prepared_transactions = 5
});
	$node->append_conf('postgresql.conf', $option{conf}) if defined $option{conf};
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION webhook')
	  unless defined $option{extension} && !$option{extension};
	return $node;
}

# The rows of a query, each a hash of its columns, with numbers as numbers.
sub rows
{
	my ($node, $query, $database) = @_;
	my $text = $node->safe_psql($database || 'postgres',
		"SELECT coalesce(json_agg(q), '[]') FROM ($query) q");

	return @{ $json->decode($text) };
}

sub row
{
	my @rows = rows(@_);

	die "expected one row, got " . @rows . ": $_[1]" if @rows != 1;
	return $rows[0];
}

# Wait until a query gives 't', or what is expected; true if it did.  When it
# does not, says what it gave instead.
sub wait_for_sql
{
	my ($node, $query, $expected, $database) = @_;
	my $deadline = time + $patience;
	my $got;

	$expected = 't' unless defined $expected;
	while (1)
	{
		$got = $node->safe_psql($database || 'postgres', $query);
		return 1 if $got eq $expected;
		last if time > $deadline;
		sleep 0.05;
	}
	diag("waited in vain for \"$expected\", got \"$got\" from: $query");
	diag(($node->psql($database || 'postgres',
		'SELECT log_id, action_id, status, attempts, retry_at, http_status, error FROM webhook.webhook_log ORDER BY log_id DESC LIMIT 10'))[1]);
	return 0;
}

# Wait until nothing is due or in flight any more.
sub wait_for_delivery
{
	my ($node, $database) = @_;

	return $node->safe_psql($database || 'postgres',
		"SELECT webhook.wait('$patience s')") eq 't';
}

# Turn the clock: what waits for its next attempt is due now.
sub turn_clock
{
	my ($node, $condition, $database) = @_;

	$condition = 'true' unless defined $condition;
	$node->safe_psql($database || 'postgres',
		"UPDATE webhook.webhook_log SET retry_at = now() WHERE retry_at > now() AND ($condition)");
	return;
}

sub clock_hand { return "$PostgreSQL::Test::Utils::tmp_check/clock_$$" }

# A server of start_with_clock has its clock so many seconds ahead, from now on.
sub set_clock
{
	my ($seconds) = @_;
	my $hand = clock_hand();
	my $mode = -e $hand ? '+<' : '>';

	open my $file, "$mode:raw", $hand or die "$hand: $!";
	syswrite $file, pack('q', $seconds);
	close $file;
	return;
}

# Start a server with a clock of its own (clock.c), so many seconds ahead.
sub start_with_clock
{
	my ($node, $seconds) = @_;
	my $preload = "$PostgreSQL::Test::Utils::tmp_check/clock_$$.so";

	PostgreSQL::Test::Utils::run_log([ split(' ', $ENV{CC} || 'cc'), '-shared', '-fPIC', '-o', $preload, dirname(__FILE__) . '/clock.c', '-ldl' ])
	  or die 'no preload';
	set_clock($seconds);
	local $ENV{WEBHOOK_TEST_CLOCK} = clock_hand();
	local $ENV{LD_PRELOAD} = $preload;
	$node->start;
	return;
}

# A port of 127.0.0.1 that nobody listens on.
sub closed_port
{
	my $socket = IO::Socket::INET->new(
		LocalAddr => '127.0.0.1',
		LocalPort => 0,
		Proto => 'tcp',
		Listen => 1) or die "no port: $!";
	my $port = $socket->sockport;

	close $socket;
	return $port;
}

# Change settings, and wait until the worker has them.
sub set_conf
{
	my ($node, $conf) = @_;

	$node->append_conf('postgresql.conf', "$conf\nwebhook.enabled = off");
	$node->reload;
	wait_for_sql($node, q{SELECT bool_and(state = 'disabled') FROM webhook.stat_worker}) or die 'not reloaded';
	$node->append_conf('postgresql.conf', 'webhook.enabled = on');
	$node->reload;
	wait_for_sql($node, q{SELECT bool_and(state = 'running') FROM webhook.stat_worker}) or die 'not reloaded';
	return;
}

# The process id of a database's worker, once there is one other than $not.
sub worker_pid
{
	my ($node, $not, $database) = @_;
	my $deadline = time + $patience;

	$database ||= 'postgres';
	$not ||= 0;
	while (time < $deadline)
	{
		# A worker that was killed takes all sessions with it for a moment; psql
		# may end before it has read what it is to ask, which is an error here.
		my ($status, $pid) = eval { $node->psql('postgres', qq{
			SELECT min(pid) FROM pg_stat_activity
			WHERE backend_type = 'webhook worker' AND datname = '$database' AND pid <> $not}) };
		return $pid if defined $status && $status == 0 && $pid ne '';
		sleep 0.05;
	}
	die "no worker in database $database";
}

# Kill a worker as the kernel would, and with it all sessions; returns the process
# id of the next one, once there is one and so the server takes connections again.
sub kill_worker
{
	my ($node) = @_;
	my $pid = worker_pid($node);

	kill 'KILL', $pid or die "no worker to kill";
	return worker_pid($node, $pid);
}

# --------------------------------------------------------------------------
# The receiver; see receiver.py for the paths that it knows
# --------------------------------------------------------------------------

my $receivers = 0;

# options: tls => [cert, key], client_ca, old_tls, terse, route => [...], host, port
sub start_receiver
{
	my (%option) = @_;
	my $base = "$PostgreSQL::Test::Utils::tmp_check/receiver_$$." . ++$receivers;
	my $self = bless {
		log => "$base.log",
		port_file => "$base.port",
		option => \%option,
		offset => 0,
		parsed => [],
	}, 'WebhookTest::Receiver';

	$self->start($option{port});
	return $self;
}

# options: tls => [cert, key], smtps, require_tls, auth, only, refuse, busy,
# hang, ascii, rude, port
sub start_mail_server
{
	my (%option) = @_;
	my $base = "$PostgreSQL::Test::Utils::tmp_check/mail_server_$$." . ++$receivers;
	my $self = bless {
		log => "$base.log",
		port_file => "$base.port",
		option => \%option,
	}, 'WebhookTest::MailServer';

	$self->start($option{port});
	return $self;
}

package WebhookTest::Receiver;

use Time::HiRes qw(sleep time);

sub command
{
	my ($self) = @_;
	my %option = %{ $self->{option} };
	my @command = ('receiver.py');

	push @command, '--tls', @{ $option{tls} } if $option{tls};
	push @command, '--client-ca', $option{client_ca} if $option{client_ca};
	push @command, '--old-tls' if $option{old_tls};
	push @command, '--host', $option{host} if $option{host};
	push @command, '--terse' if $option{terse};
	push @command, map { ('--route', $_) } @{ $option{route} || [] };
	return @command;
}

sub start
{
	my ($self, $port) = @_;
	my ($program, @arguments) = $self->command;
	my @command = (
		'python3', File::Basename::dirname(__FILE__) . "/$program",
		'--port-file', $self->{port_file}, '--log', $self->{log}, @arguments);
	my $deadline = time + $WebhookTest::patience;

	push @command, '--port', $port if $port;
	unlink $self->{port_file};
	$self->{harness} = IPC::Run::start(\@command, '<pipe', $self->{in} = Symbol::gensym());
	until (-s $self->{port_file})
	{
		die "$program did not start" if time > $deadline;
		sleep 0.02;
	}
	$self->{port} = PostgreSQL::Test::Utils::slurp_file($self->{port_file}) + 0;
	return;
}

# Stop it; start_again takes the same port.
sub stop
{
	my ($self) = @_;

	return unless $self->{harness};
	close $self->{in};
	$self->{harness}->finish;
	delete $self->{harness};
	return;
}

sub start_again
{
	my ($self) = @_;

	$self->start($self->{port});
	return;
}

sub DESTROY
{
	my ($self) = @_;

	local $?;
	$self->stop;
	return;
}

# The URL of a path.
sub url
{
	my ($self, $path) = @_;
	my $scheme = $self->{option}{tls} ? 'https' : 'http';
	my $host = $self->{option}{host} || '127.0.0.1';

	$host = "[$host]" if $host =~ /:/;
	return "$scheme://$host:$self->{port}$path";
}

# All requests so far, as hashes: n, webhook_id, path, time, method, answer,
# headers (a list of pairs), body (decoded), bytes (as they came); those of
# one path prefix, if given.
sub requests
{
	my ($self, $path) = @_;

	if (-e $self->{log} && -s $self->{log} > $self->{offset})
	{
		open my $file, '<:raw', $self->{log} or die "$self->{log}: $!";
		seek $file, $self->{offset}, 0;
		while (my $line = <$file>)
		{
			last if $line !~ /\n\z/;
			$self->{offset} += length $line;
			my $request = $json->decode($line);

			$request->{bytes} = MIME::Base64::decode_base64($request->{body_base64})
			  if defined $request->{body_base64};
			push @{ $self->{parsed} }, $request;
		}
		close $file;
	}
	return grep { !defined $path || index($_->{path}, $path) == 0 } @{ $self->{parsed} };
}

# How many requests there were: quick, however many.
sub count
{
	my ($self) = @_;
	my $count = 0;
	my $block;

	return 0 unless -e $self->{log};
	open my $file, '<:raw', $self->{log} or die "$self->{log}: $!";
	$count += ($block =~ tr/\n//) while read $file, $block, 1 << 20;
	close $file;
	return $count;
}

# How often each webhook-id was seen: quick, however many.
sub deliveries
{
	my ($self) = @_;
	my %seen;

	return \%seen unless -e $self->{log};
	open my $file, '<:raw', $self->{log} or die "$self->{log}: $!";
	while (my $line = <$file>)
	{
		$seen{$1}++ if $line =~ /"webhook_id": "([^"]*)"/;
	}
	close $file;
	return \%seen;
}

# Wait until there were so many requests; true if there were.
sub wait_for
{
	my ($self, $count) = @_;
	my $deadline = time + $WebhookTest::patience;

	while ($self->count < $count)
	{
		if (time > $deadline)
		{
			Test::More::diag('waited in vain for ' . $count . ' requests, got ' . $self->count);
			return 0;
		}
		sleep 0.02;
	}
	return 1;
}

# The value of a header of a request.
sub header
{
	my ($self, $request, $name) = @_;

	for my $pair (@{ $request->{headers} })
	{
		return $pair->[1] if lc $pair->[0] eq lc $name;
	}
	return undef;
}

package WebhookTest::MailServer;

our @ISA = ('WebhookTest::Receiver');

sub command
{
	my ($self) = @_;
	my %option = %{ $self->{option} };
	my @command = ('mail_server.py');

	push @command, '--tls', @{ $option{tls} } if $option{tls};
	push @command, '--smtps' if $option{smtps};
	push @command, '--require-tls' if $option{require_tls};
	push @command, '--auth', $option{auth} if $option{auth};
	push @command, '--only', $option{only} if $option{only};
	push @command, map { ('--refuse', $_) } @{ $option{refuse} || [] };
	push @command, map { ('--busy', $_) } @{ $option{busy} || [] };
	push @command, '--hang' if $option{hang};
	push @command, '--ascii' if $option{ascii};
	push @command, '--rude', $option{rude} if $option{rude};
	return @command;
}

# The URL for webhook.smtp_url.
sub url
{
	my ($self) = @_;

	return ($self->{option}{smtps} ? 'smtps' : 'smtp') . "://localhost:$self->{port}";
}

# All mails that it took, as hashes: from, to, tls, user, mechanism, headers,
# subject, text, defects.
sub mails
{
	my ($self) = @_;
	my @mails;

	return () unless -e $self->{log};
	open my $file, '<:raw', $self->{log} or die "$self->{log}: $!";
	push @mails, $json->decode($_) while <$file>;
	close $file;
	return @mails;
}

1;
