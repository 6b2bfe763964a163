# README.md and doc/: every example in them is run, in order, and shows what
# really comes out; the reference says what the catalog says; links lead somewhere;
# and whatever a user sees of the extension is described in the catalog.
#
# DOCUMENTS=write writes down what came out (make doc).

use strict;
use warnings;
use utf8;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use DocumentTest;
use Encode;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookTest;

my $top = "$FindBin::RealBin/../..";
my @documents = ("README.md", map { s,^\Q$top\E/,,r } sort glob "$top/doc/*.md");
my (%text, @left_out);

chdir $top or die "$top: $!";

sub write_document
{
	my ($name, $text) = @_;

	return if $text eq $text{$name};
	open my $file, '>:encoding(UTF-8)', $name or die "$name: $!";
	print $file $text;
	close $file;
	$text{$name} = $text;
	diag("$name is written");
	return;
}

# The reference, and that nothing is left without a description.
my $node = start_cluster('reference');
my $reference = decode('UTF-8', $node->safe_psql('postgres', '', extra_params => [ '-f', 'test/doc/reference.sql' ])) . "\n";
is($node->safe_psql('postgres', slurp_file('test/doc/undescribed.sql')), '', 'everything has a COMMENT');
$node->stop;

$text{$_} = -e $_ ? decode('UTF-8', slurp_file($_)) : '' for @documents, 'doc/reference.md';
write_document('doc/reference.md', $reference) if $DocumentTest::is_writing;
ok($reference eq $text{'doc/reference.md'}, 'doc/reference.md is what the catalog says; make doc writes it');

# The examples.
for my $name (grep { $_ ne 'doc/reference.md' } @documents)
{
	my ($text, @not_run) = DocumentTest::run_document($name, $text{$name});

	push @left_out, @not_run;
	write_document($name, $text) if $DocumentTest::is_writing;
}
note("not run: $_") for @left_out;
cmp_ok(scalar(@left_out), '<=', 3, 'few examples are not run');

# Links, and the tests that are named.
sub anchors
{
	my ($text) = @_;
	my %anchor;

	$text =~ s/^```.*?^```$//msg;
	for my $heading ($text =~ /^#+ (.*)$/mg)
	{
		$heading = lc $heading;
		$heading =~ s/[^\w\- ]//g;
		$heading =~ s/ /-/g;
		$anchor{$heading} = 1;
	}
	return \%anchor;
}

for my $name (@documents)
{
	my ($directory) = $name =~ m,^(.*/)?,;
	my @broken;

	while ($text{$name} =~ /\]\(([^)\s]+)\)/g)
	{
		my ($path, $anchor) = $1 =~ /^([^#]*)#?(.*)$/;

		next if $path =~ /^https?:/;
		$path = $path eq '' ? $name : ($directory || '') . $path;
		$path =~ s,[^/]+/\.\./,,;
		push @broken, $1 unless -e $path;
		push @broken, "$path#$anchor" if $anchor ne '' && !anchors($text{$path})->{$anchor};
	}
	push @broken, grep { !-e "test/tap/$_.pl" } $text{$name} =~ /`(\d{3}_\w+)`/g;
	is("@broken", '', "$name: links lead somewhere");
}

done_testing();
