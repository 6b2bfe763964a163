# What make install puts somewhere, make uninstall takes away; META.json says the truth.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Find;
use File::Path qw(make_path);
use FindBin;
use lib "$FindBin::RealBin/../lib";

use JSON::PP;
use Test::More;
use WebhookTest;

my $source = abs_path("$FindBin::RealBin/../..");
my $dir = PostgreSQL::Test::Utils::tempdir();
my $pg_config = $ENV{PG_CONFIG};
my $json = JSON::PP->new->utf8;

sub config
{
	my ($what, $program) = @_;

	chomp(my $path = qx{"@{[ $program || $pg_config ]}" --$what});
	return $path;
}

# All files below a directory, and directories that bear our name.
sub files
{
	my ($root) = @_;
	my @found;

	find(sub { push @found, $File::Find::name =~ s/^\Q$root\E//r if !-d || -l || /^webhook/ }, $root) if -d $root;
	return sort @found;
}

sub make
{
	my ($program, @words) = @_;

	return PostgreSQL::Test::Utils::run_log([ $ENV{MAKE} || 'make', '-s', '-C', $source, "PG_CONFIG=$program", @words ]);
}

# A pg_config that tells of other directories.
sub write_pg_config
{
	my ($path, %dirs) = @_;

	make_path(dirname($path));
	PostgreSQL::Test::Utils::append_to_file($path, join("\n", '#!/bin/sh', 'case $1 in',
			(map { "--$_) echo '$dirs{$_}' ;;" } sort keys %dirs), "*) exec '$pg_config' \"\$@\" ;;", 'esac', ''));
	chmod 0755, $path;
	return $path;
}

my $control = PostgreSQL::Test::Utils::slurp_file("$source/webhook.control");
my ($version) = $control =~ /^default_version = '(.*)'$/m;
like($version, qr/^\d+\.\d+$/, "version $version");
ok(-e "$source/src/webhook--$version.sql", 'it can be installed at once');

# With DESTDIR, as packages are made
ok(make($pg_config, 'install', "DESTDIR=$dir/package"), 'make install DESTDIR=…');
my @installed = files("$dir/package");
my ($library, $share) = (config('pkglibdir'), config('sharedir'));
my @wanted = sort("$library/webhook.so", "$share/extension/webhook.control", map { s{.*/}{$share/extension/}r } glob "$source/src/webhook--*.sql");
is_deeply([ grep { !m{/bitcode/} } @installed ], \@wanted, 'the library, the control file and the scripts');
is(scalar(grep { m{/bitcode/} && !m{^\Q$library\E/bitcode/webhook(?:[./]|$)} } @installed), 0, 'all else is bitcode');
ok(make($pg_config, 'uninstall', "DESTDIR=$dir/package"), 'make uninstall DESTDIR=…');
is_deeply([ files("$dir/package") ], [], 'leaves nothing');

# A layout like no other
my $odd = write_pg_config("$dir/odd/commands/pg_config",
	bindir => "$dir/odd/commands", pkglibdir => "$dir/odd/modules.d/64", sharedir => "$dir/odd/data,shared", libdir => "$dir/odd/l", docdir => "$dir/odd/d");
my @before = files("$dir/odd");
ok(make($odd, 'install'), 'make install with a pg_config of an unusual layout');
is_deeply([ grep { !m{/bitcode/} && !m{/pg_config$} } files("$dir/odd") ],
	[ sort('/modules.d/64/webhook.so', '/data,shared/extension/webhook.control', map { s{.*/}{/data,shared/extension/}r } glob "$source/src/webhook--*.sql") ],
	'everything is where pg_config says');
ok(make($odd, 'uninstall'), 'make uninstall');
is_deeply([ files("$dir/odd") ], \@before, 'leaves nothing');

# A PostgreSQL that was moved: its pg_config tells by where it is itself
my $moved = "$dir/moved" . config('bindir') . '/pg_config';
make_path(dirname($moved));
PostgreSQL::Test::Utils::run_log([ 'cp', config('bindir') . '/pg_config', $moved ]);
for my $what (qw(includedir-server pgxs))
{
	# pgxs.mk lies in pgxs/src/makefiles.
	my ($real, $here) = map { $what eq 'pgxs' ? s{/src/makefiles/pgxs\.mk$}{}r : $_ } config($what), config($what, $moved);

	like($here, qr/^\Q$dir\E/, "$what of a PostgreSQL that was moved");
	make_path(dirname($here));
	symlink $real, $here or die "$here: $!";
}
@before = files("$dir/moved");
ok(make($moved, 'install'), 'make install there');
ok(-e config('pkglibdir', $moved) . '/webhook.so', 'the library is where it looks for it');
ok(make($moved, 'uninstall'), 'make uninstall');
is_deeply([ files("$dir/moved") ], \@before, 'leaves nothing');

# META.json, by the rules of the PGXN meta specification 1.0.0
my $meta = $json->decode(PostgreSQL::Test::Utils::slurp_file("$source/META.json"));
my $number = qr/(?:0|[1-9]\d*)/;
my $semver = qr/$number\.$number\.$number(?:-?[A-Za-z][0-9A-Za-z-]*)?/;
my $range = qr/(?:(?:[<>]=?|[=!]=) *)?(?:$semver|0)/;
my $term = qr/[^\s\/\\\x00-\x1f]{2,}/;
my $text = sub { defined $_[0] && !ref $_[0] && $_[0] =~ /\S/ };
my $matches = sub { my $re = shift; sub { $text->($_[0]) && $_[0] =~ /\A$re\z/ } };
my $url = $matches->(qr{[a-z][a-z0-9+.-]*://[^\s]+}i);
my $one_or_more = sub { my $is = shift; sub { ref $_[0] eq 'ARRAY' ? @{ $_[0] } && !grep { !$is->($_) } @{ $_[0] } : $is->($_[0]) } };
my @licenses = qw(agpl_3 apache_1_1 apache_2_0 artistic_1 artistic_2 bsd freebsd gfdl_1_2 gfdl_1_3 gpl_1 gpl_2 gpl_3 lgpl_2_1 lgpl_3_0
  mit mozilla_1_0 mozilla_1_1 openssl perl_5 postgresql qpl_1_0 ssleay sun zlib open_source restricted unrestricted unknown);

# What is wrong with a map: its keys are those of %$keys, "!" marks what has to be there.
sub faults
{
	my ($where, $map, $keys) = @_;
	my @faults;

	return ("$where is no map") if ref $map ne 'HASH';
	for my $key (sort keys %$map)
	{
		next if $key =~ /^x_/i;
		my $is = $keys->{"$key!"} || $keys->{$key};
		push @faults, !$is ? "$where.$key is not known" : $is->($map->{$key}) ? () : "$where.$key is not valid";
	}
	push @faults, map { /^(.*)!$/ && !exists $map->{$1} ? "$where.$1 is missing" : () } sort keys %$keys;
	return @faults;
}

# A check of each of a map's values.
sub every
{
	my ($name, $is) = @_;

	return sub { ref $_[0] eq 'HASH' && %{ $_[0] } && !grep { $_ !~ /\A$name\z/ || !$is->($_[0]{$_}) } keys %{ $_[0] } };
}

sub is_sound { my ($keys) = @_; return sub { !faults('', $_[0], $keys) } }

sub meta_faults
{
	my ($document) = @_;
	my $is_license = sub { my ($l) = @_; $text->($l) && !!grep { $_ eq $l } @licenses };

	return faults('META', $document, {
		'name!' => $matches->($term),
		'version!' => $matches->($semver),
		'abstract!' => $text,
		'maintainer!' => $one_or_more->($text),
		'license!' => sub { ref $_[0] eq 'HASH' ? every(qr/.+/, $url)->($_[0]) : $one_or_more->($is_license)->($_[0]) },
		'provides!' => every($term, is_sound({ 'file!' => $text, 'version!' => $matches->($semver), abstract => $text, docfile => $text })),
		'meta-spec!' => is_sound({ 'version!' => $matches->(qr/1\.0\.0/), url => $matches->(qr{https?://(?:www\.)?pgxn\.org/meta/spec\.txt}) }),
		description => $text,
		generated_by => $text,
		tags => sub { ref $_[0] eq 'ARRAY' && @{ $_[0] } && !grep { !$text->($_) || length > 255 || m{[/\\\x00-\x1f]} } @{ $_[0] } },
		no_index => is_sound({ file => $one_or_more->($text), directory => $one_or_more->($text) }),
		prereqs => every(qr/configure|build|test|runtime|develop/, every(qr/requires|recommends|suggests|conflicts/, every($term, $matches->(qr/$range(?: *, *$range)*/)))),
		release_status => $matches->(qr/stable|testing|unstable/),
		resources => is_sound({ homepage => $url, bugtracker => is_sound({ web => $url, mailto => $matches->(qr/\S+@\S+/) }), repository => is_sound({ url => $url, web => $url, type => $matches->(qr/[a-z]+/) }) }) });
}
is_deeply([ meta_faults($meta) ], [], 'META.json is as PGXN wants it');

# The check finds something: each rule broken once
for my $broken ([ name => 'a/b' ], [ version => '1.0' ], [ version => '01.0.0' ], [ abstract => '' ], [ maintainer => [] ], [ license => 'mine' ], [ license => { mine => 'nowhere' } ],
	[ provides => {} ], [ provides => { webhook => { file => 'x' } } ], [ provides => { webhook => { file => 'x', version => '1' } } ], [ tags => ['a/b'] ], [ tags => 'a' ],
	[ prereqs => { run => {} } ], [ prereqs => { runtime => { requires => { PostgreSQL => '15' } } } ], [ 'meta-spec' => { version => '2.0.0' } ], [ release_status => 'done' ], [ colour => 'red' ])
{
	isnt(scalar meta_faults({ %$meta, @$broken }), 0, 'not: ' . $json->canonical->encode({@$broken}));
}
for my $key (qw(name version abstract maintainer license provides meta-spec))
{
	my %without = %$meta;

	delete $without{$key};
	is_deeply([ meta_faults(\%without) ], ["META.$key is missing"], "not without $key");
}

# And it is true
my $provided = $meta->{provides}{webhook};
is($meta->{version} =~ s/\.\d+$//r, $version, 'its version is the control file\'s');
is($provided->{version}, $meta->{version}, 'twice');
ok(-e "$source/$provided->{$_}", "$provided->{$_} is there") for qw(file docfile);
is($provided->{file}, "src/webhook--$version.sql", 'and is what is installed');
like(PostgreSQL::Test::Utils::slurp_file("$source/CHANGELOG.md"), qr/^## \Q$meta->{version}\E\b/m, 'the changelog knows it');
like(PostgreSQL::Test::Utils::slurp_file("$source/test/packaging/debian/changelog"), qr/\Apostgresql-webhook \(\Q$meta->{version}\E[)-]/, 'so does the package');
done_testing();
