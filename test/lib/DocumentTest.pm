# DocumentTest.pm
#	  Runs every example of a Markdown document, in order, against a cluster and
#	  receivers of its own, and compares what it shows with what comes out.
#
# An example is a fenced block.  Its language says how it is run:
#
#	sql	statements, in the document's psql session; an error fails
#	psql	a transcript: prompts (crm=#) with input, and the output
#	sh	commands, by bash; or a transcript, where lines begin with "$ "
#	conf	lines for postgresql.conf; the server is restarted
#	text	no example: it is not run
#
# Comments, which no reader sees, say what the text doesn't, each for the block
# below it:
#
#	<!-- background -->	this command goes on until the document ends
#	<!-- prints -->	this text block is what the background commands have printed
#	<!-- varies: REGEX -->	what differs from run to run, beyond times and the like
#	<!-- not run: REASON -->
#
# or where they stand:
#
#	<!-- until: QUERY -->	wait until it gives true
#	<!-- database: NAME -->	of the session, from here on; it is made if need be
#	<!-- sql … -->, <!-- sh … -->, <!-- sh background … -->, <!-- conf … -->
#		what the reader has already, over several lines
#
# 8080 in an example stands for a free port, and so does 2525.  White space and
# the length of lines are psql's, times, durations and UUIDs the run's: they are
# not compared.

package DocumentTest;

use strict;
use warnings;
use utf8;

use Encode;
use File::Basename qw(dirname);
use IO::Socket::INET;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Symbol;
use Test::More;
use Time::HiRes qw(sleep time);
use WebhookTest;

# What came out is to be written down, and so is no failure.
our $is_writing = ($ENV{DOCUMENTS} || '') eq 'write';

our $prompt = qr/^\w+[=\-('"*^]\*?[#>] ?/;

# --------------------------------------------------------------------------
# Reading a document
# --------------------------------------------------------------------------

# A document as a list of parts, each with the lines it consists of (raw) and,
# if it is to be run, what, where and how.
sub parse
{
	my ($text) = @_;
	my @lines = split /^/, $text;
	my (@parts, %directive);

	for (my $i = 0; $i < @lines; $i++)
	{
		my %part = (line => $i + 1, raw => $lines[$i]);

		if ($lines[$i] =~ /^```(.*)$/)
		{
			$part{language} = $1;
			$part{open} = $lines[$i];
			$part{body} = '';
			$part{body} .= $lines[$i] while ++$i < @lines && $lines[$i] !~ /^```$/;
			die "line $part{line}: the block does not end" if $i == @lines;
			$part{raw} .= $part{body} . $lines[$i];
			$part{directive} = {%directive};
			%directive = ();
		}
		elsif ($lines[$i] =~ /^<!-- (sql|sh|conf)( background)?$/)
		{
			$part{language} = $1;
			$part{hidden} = 1;
			$part{body} = '';
			$part{directive} = { $2 ? (background => 1) : () };
			$part{body} .= $lines[$i] while ++$i < @lines && $lines[$i] !~ /^-->$/;
			die "line $part{line}: the comment does not end" if $i == @lines;
			$part{raw} .= $part{body} . $lines[$i];
		}
		elsif ($lines[$i] =~ /^<!-- (until|database): (.*) -->$/)
		{
			@part{ 'command', 'argument' } = ($1, $2);
		}
		elsif ($lines[$i] =~ /^<!-- (background|prints) -->$/ || $lines[$i] =~ /^<!-- (varies|not run): (.*) -->$/)
		{
			$directive{$1} = defined $2 ? $2 : 1;
		}
		elsif ($lines[$i] =~ /<!--/)
		{
			die "line $part{line}: no such comment: $lines[$i]";
		}
		push @parts, \%part;
	}
	return @parts;
}

# The inputs of a transcript, each with the output that follows it.
sub exchanges
{
	my ($body, $input) = @_;
	my @exchanges;

	for my $line (split /^/, $body)
	{
		if ($line =~ $input)
		{
			my $typed = $line;
			my $continues = $line =~ /^\w+[-('"*]/ || $line =~ /^> /;

			$typed =~ s/$input//;
			push @exchanges, { shown => '', input => '', output => '' } unless $continues && @exchanges;
			$exchanges[-1]{shown} .= $line;
			$exchanges[-1]{input} .= $typed;
		}
		else
		{
			die "output before any input: $line" unless @exchanges;
			$exchanges[-1]{output} .= $line;
		}
	}
	return @exchanges;
}

# What of an output is compared.
sub essence
{
	my ($text, $varies) = @_;

	$text =~ s/$varies/<varies>/g if defined $varies;
	$text =~ s/\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/<uuid>/g;
	$text =~ s/\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d(?::\d\d)?)?/<time>/g;
	$text =~ s/\b\d\d:\d\d:\d\d(?:\.\d+)?\b/<duration>/g;
	$text =~ s/\b\d+(?:\.\d+)? m?s\b/<duration>/g;
	$text =~ s/-{2,}|─{2,}/--/g;
	$text =~ s/[ \t]+/ /g;
	$text =~ s/ +$//gm;
	$text =~ s/\A\n+|\n+\z//g;
	return $text;
}

# --------------------------------------------------------------------------
# Running it
# --------------------------------------------------------------------------

# A free port of as many digits as the ones in the text, for the sake of tables,
# but none of these, which stand for others.
sub free_port
{
	while (1)
	{
		my $port = 8100 + int rand 1900;

		return $port
		  if IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Proto => 'tcp', Listen => 1);
	}
}

sub new
{
	my ($class, $name) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	my $port = free_port();
	my $mail_port;

	do { $mail_port = free_port() } while $mail_port == $port;
	$node->init(extra => [ '-U', 'postgres', '-E', 'UTF8', '--locale=C' ]);
	$node->append_conf('postgresql.conf', qq{
fsync = off
timezone = 'UTC'
max_worker_processes = 20
});
	$node->start;
	# Files that examples write go to a directory of their own, from where test/ can
	# be seen.
	my $directory = PostgreSQL::Test::Utils::tempdir();
	symlink dirname(__FILE__) . '/..', "$directory/test" or die "no link: $!";
	return bless {
		directory => $directory,
		node => $node,
		database => 'crm',
		ports => { 8080 => $port, 2525 => $mail_port },
		background => [],
		printed => "$PostgreSQL::Test::Utils::tmp_check/printed_$name",
	}, $class;
}

# What is written, as it is meant here; and back.
sub here
{
	my ($self, $text) = @_;

	$text =~ s/\b(8080|2525)\b/$self->{ports}{$1}/g;
	return $text;
}

sub there
{
	my ($self, $text) = @_;

	$text =~ s/\b\Q$self->{ports}{$_}\E\b/$_/g for keys %{ $self->{ports} };
	return $text;
}

sub environment
{
	my ($self) = @_;

	return (
		PGHOST => $self->{node}->host,
		PGPORT => $self->{node}->port,
		PGUSER => 'postgres',
		PGDATABASE => 'postgres',
		PGAPPNAME => 'psql',
		PGOPTIONS => '',
		PGCLIENTENCODING => 'UTF8');
}

sub psql
{
	my ($self) = @_;

	return if $self->{psql};
	my %environment = $self->environment;
	local @ENV{ keys %environment } = values %environment;

	IPC::Run::run([ 'psql', '-XAtq', '-c', "SELECT 1 FROM pg_database WHERE datname = '$self->{database}'" ], '>', \my $found);
	IPC::Run::run([ 'createdb', $self->{database} ]) or die "no database" if $found eq '';
	$self->{in} = '';
	$self->{out} = '';
	$self->{psql} = IPC::Run::start([ 'psql', '-X', '-P', 'pager=off', '-d', $self->{database} ],
		'<', \$self->{in}, '>&', \$self->{out}, IPC::Run::timeout(2 * $WebhookTest::patience));
	return;
}

sub end_psql
{
	my ($self) = @_;

	return unless $self->{psql};
	$self->{in} .= "\\q\n";
	eval { $self->{psql}->finish } or $self->{psql}->kill_kill;
	delete $self->{psql};
	return;
}

# The output of an input to the session.
sub ask
{
	my ($self, $input) = @_;
	my $mark = 'that is all ' . ++$self->{asked};

	$self->psql;
	$self->{out} = '';
	$self->{in} .= $self->here($input) . "\n\\echo '$mark'\n";
	$self->{psql}->pump until $self->{out} =~ /^\Q$mark\E$/m || !$self->{psql}->pumpable;
	die "psql has ended: $self->{out}" unless $self->{out} =~ s/^\Q$mark\E\n.*//ms;
	return $self->there(Encode::decode('UTF-8', $self->{out}));
}

sub shell
{
	my ($self, $command) = @_;
	my %environment = $self->environment;
	local @ENV{ keys %environment } = values %environment;
	my $output;

	IPC::Run::run([ 'bash', '-c', $self->here($command) ], '<', '/dev/null', '>&', \$output,
		init => sub { chdir $self->{directory} });
	my $status = $? >> 8;
	return ($self->there(Encode::decode('UTF-8', $output)), $status);
}

# A command that ends when its standard input does, with the document.
sub start_background
{
	my ($self, $command) = @_;
	my $deadline = time + $WebhookTest::patience;
	my %process = (in => Symbol::gensym());

	$command = $self->here($command);
	$process{harness} = IPC::Run::start([ 'bash', '-c', $command ], '<pipe', $process{in}, '>>', $self->{printed}, '2>&1',
		init => sub { chdir $self->{directory} });
	push @{ $self->{background} }, \%process;
	return unless $command =~ /--port (\d+)/;
	until (IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $1, Proto => 'tcp'))
	{
		die "did not start: $command" if time > $deadline;
		sleep 0.05;
	}
	return;
}

sub until_true
{
	my ($self, $query) = @_;
	my $deadline = time + $WebhookTest::patience;
	my $got;

	while (time < $deadline)
	{
		$got = $self->ask("\\pset tuples_only on\n\\pset format unaligned\n$query;\n\\pset format aligned\n\\pset tuples_only off");
		return '' if $got =~ /^t$/m;
		sleep 0.05;
	}
	return "waited in vain, got $got, for: $query";
}

sub end
{
	my ($self) = @_;

	$self->end_psql;
	for my $process (@{ $self->{background} })
	{
		close $process->{in};
		$process->{harness}->finish;
	}
	$self->{node}->stop;
	return;
}

# --------------------------------------------------------------------------
# One part
# --------------------------------------------------------------------------

sub compare
{
	my ($part, $got, $shown, $what) = @_;
	my $varies = $part->{directive}{varies};
	my ($g, $s) = (essence($got, $varies), essence($shown, $varies));

	return '' if $g eq $s;
	$part->{is_other} = 1;
	return "$what\nshown:\n$s\ncame:\n$g";
}

sub tidy
{
	my ($text) = @_;

	$text =~ s/ +$//gm;
	$text =~ s/\n+\z/\n/;
	return $text eq "\n" ? '' : $text;
}

# Run a transcript, by a function that gives an input's output; the body with
# what came out goes to $part->{new}.
sub run_transcript
{
	my ($part, $input, $run) = @_;
	my (@wrong, $new);

	my @exchanges = exchanges($part->{body}, $input);

	for my $i (0 .. $#exchanges)
	{
		my $exchange = $exchanges[$i];
		my $got = $run->($exchange->{input});
		my $wrong = compare($part, $got, $exchange->{output}, $exchange->{input});
		my $gap = $i < $#exchanges ? "\n" : '';

		push @wrong, $wrong if $wrong ne '';
		$new .= $exchange->{shown} . ($wrong ne '' ? tidy($got) . $gap : $exchange->{output});
	}
	$part->{new} = $new;
	return join "\n", @wrong;
}

# What is wrong with a part; '' if nothing is.
sub run
{
	my ($self, $part) = @_;
	my ($language, $directive) = @{$part}{ 'language', 'directive' };

	if (defined $part->{command})
	{
		return $self->until_true($part->{argument}) if $part->{command} eq 'until';
		$self->end_psql;
		$self->{database} = $part->{argument};
		return '';
	}
	if ($directive->{background})
	{
		$self->start_background($part->{body});
		return '';
	}
	if ($directive->{prints})
	{
		my $printed = $self->there(Encode::decode('UTF-8', slurp_file($self->{printed})));
		my $wrong = compare($part, $printed, $part->{body}, 'printed');

		$part->{new} = tidy($printed);
		return $wrong;
	}
	if ($language eq 'sql')
	{
		my $got = $self->ask($part->{body});
		return $got =~ /^(?:ERROR|FATAL|invalid|psql:|\\)/m ? "$part->{body}\n$got" : '';
	}
	if ($language eq 'psql')
	{
		return run_transcript($part, $prompt, sub { $self->ask($_[0]) });
	}
	if ($language eq 'sh' && $part->{body} =~ /^\$ /m)
	{
		return run_transcript($part, qr/^[\$>] /, sub { ($self->shell($_[0]))[0] });
	}
	if ($language eq 'sh')
	{
		my ($got, $status) = $self->shell("set -e\n$part->{body}");
		return $status ? "$part->{body}\n$got" : '';
	}
	if ($language eq 'conf')
	{
		$self->end_psql;
		$self->{node}->append_conf('postgresql.conf', $self->here($part->{body}));
		$self->{node}->restart;
		return '';
	}
	return "no such language: \"$language\"";
}

# Run a document.  Returns its text with what came out, and a list of what was
# not run.
sub run_document
{
	my ($name, $text) = @_;
	my @parts = parse($text);
	my ($self, @left_out, $n);

	for my $part (@parts)
	{
		next unless defined $part->{language} || defined $part->{command};
		next if defined $part->{language} && $part->{language} eq 'text' && !$part->{directive}{prints};
		if (defined $part->{directive} && $part->{directive}{'not run'})
		{
			push @left_out, "$name:$part->{line}: $part->{directive}{'not run'}";
			next;
		}
		(my $cluster = $name) =~ s/\W+/_/g;
		$self = DocumentTest->new($cluster) unless $self;
		my $wrong = eval { $self->run($part) };

		$wrong = "died: $@" unless defined $wrong;
		$wrong = '' if $part->{is_other} && $is_writing;
		is(encode('UTF-8', $wrong), '', "$name, line $part->{line}");
		$part->{raw} = $part->{open} . $part->{new} . "```\n" if $part->{is_other} && !$part->{hidden};
		$n++;
	}
	$self->end if $self;
	note("$name: " . ($n || 0) . ' examples');
	return (join('', map { $_->{raw} } @parts), @left_out);
}

1;
