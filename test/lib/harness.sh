# harness.sh
#	  What `make test`, `make demo` and `make bench` have in common: install
#	  what is missing, build, stage a private copy of the installed PostgreSQL
#	  with the extension in it, run a command there as an unprivileged user,
#	  and leave nothing behind.
#
# To be sourced by bash, by a script that has set top to the build tree:
#
#	harness_begin
#	harness_need build python
#	harness_build
#	harness_stage
#	harness_run COMMAND …		(exit, or harness_keep)
#
# Everything that a run writes, but the objects of the build, lies in one
# private directory, $work, which goes when the run ends, however it ends:
#
#	stage/	the copy of PostgreSQL, with the extension
#	src/	the tests; the build tree may be out of the user's reach
#	tmp/	sockets and temporary files
#	out/	what is worth reading after a failure
#
# The processes of a run are told from others by their working directory, which
# is below $work.  Nothing else is ever sent a signal.

set -u
umask 022

MAKE=${MAKE:-make}
PG_CONFIG=${PG_CONFIG:-pg_config}
# Options of the make that called us are not for the makes that we call.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES

work=
user=
runner=
system_path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# Root's own PATH may lead to places that the unprivileged user can't reach.
[ "$(id -u)" != 0 ] || PATH=$system_path

say() { printf '%s\n' "== $*"; }

die()
{
	printf '%s\n' "$*" >&2
	exit 1
}

# --------------------------------------------------------------------------
# Begin and end
# --------------------------------------------------------------------------

# Make the private directory.  The path of a socket in it must fit into 107
# bytes, and the user that the servers run as must get there.
harness_begin()
{
	local dir=${TMPDIR:-/tmp}

	if [ ${#dir} -gt 40 ] || ! [ -d "$dir" ] || ! is_open "$dir"; then
		dir=/tmp
	fi
	trap harness_end EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 141' PIPE
	trap 'exit 143' TERM
	work=$(mktemp -d "$dir/webhook.XXXXXX") || exit 1
	mkdir "$work/stage" "$work/src" "$work/tmp" "$work/out"
}

# Can every user pass through this directory and those above it?
is_open()
{
	local dir mode

	dir=$(cd "$1" && pwd -P) || return 1
	while :; do
		mode=$(stat -c %a "$dir")
		[ $((0$mode & 1)) = 1 ] || return 1
		[ "$dir" != / ] || return 0
		dir=$(dirname "$dir")
	done
}

# Ids of the processes of this run.
harness_processes()
{
	local proc cwd

	for proc in /proc/[0-9]*; do
		cwd=$(readlink "$proc/cwd" 2>/dev/null) || continue
		case $cwd in
			"$1"|"$1"/*|"$1 (deleted)") printf '%s\n' "${proc#/proc/}" ;;
		esac
	done
}

# End the processes of a run and remove its directory.  Servers are told to
# quit, so that they let go of their shared memory; what does not go is killed.
harness_sweep()
{
	local dir=$1 pid pids i signal=TERM

	find "$dir" -name postmaster.pid -type f 2>/dev/null | while read -r pid; do
		pid=$(head -n 1 "$pid" 2>/dev/null)
		! is_ours "$dir" "$pid" || kill -QUIT "$pid" 2>/dev/null
	done
	for i in $(seq 100); do
		pids=$(harness_processes "$dir")
		[ -n "$pids" ] || break
		[ "$i" -lt 60 ] || signal=KILL
		for pid in $pids; do
			is_server "$pid" && [ $signal != KILL ] || kill -$signal "$pid" 2>/dev/null
		done
		sleep 0.1
	done
	rm -rf "$dir"
}

is_ours()
{
	case $(readlink "/proc/${2:-0}/cwd" 2>/dev/null) in
		"$1"/*) return 0 ;;
	esac
	return 1
}

# A server and its children have been told to quit already; they take no hints.
is_server()
{
	case $(readlink "/proc/$1/exe" 2>/dev/null) in
		*/bin/postgres) return 0 ;;
	esac
	return 1
}

# Leave the run as it is, with a script that ends it.
harness_keep()
{
	{
		echo '#!/usr/bin/env bash'
		declare -f harness_processes harness_sweep is_ours is_server
		printf 'cd / && harness_sweep %q\n' "$work"
	} >"$work/stop"
	chmod 755 "$work/stop"
	runner=
	work=
}

harness_end()
{
	local status=$?

	trap '' HUP INT TERM PIPE
	trap - EXIT
	if [ -n "$work" ] && [ -d "$work" ]; then
		cd /
		[ -z "$runner" ] || kill -TERM -- "-$runner" 2>/dev/null
		harness_sweep "$work"
	fi
	exit "$status"
}

# --------------------------------------------------------------------------
# What is needed
# --------------------------------------------------------------------------

# harness_need THING …: see that what a run needs is there; as root, install
# the packages that are missing, otherwise name the line that does so.
harness_need()
{
	local thing missing=

	for thing; do
		case $thing in
			build)
				has gcc && [ -e /usr/include/stdio.h ] || missing+=' gcc libc6-dev'
				has pkg-config || missing+=' pkg-config'
				has pkg-config && pkg-config --exists libcurl || missing+=' libcurl4-openssl-dev'
				has pkg-config && pkg-config --exists libxml-2.0 || missing+=' libxml2-dev'
				need_postgres
				;;
			python) has python3 || missing+=' python3' ;;
			mail) python3 -c 'import aiosmtpd' 2>/dev/null || missing+=' python3-aiosmtpd' ;;
			clang) has clang && [ -e "$(clang -print-file-name=libclang_rt.fuzzer_no_main-"$(uname -m)".a)" ] || missing+=' clang libclang-rt-dev' ;;
			valgrind) has valgrind || missing+=' valgrind' ;;
			openssl)
				has openssl || missing+=' openssl'
				[ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=' ca-certificates'
				;;
			perl)
				has prove || missing+=' perl'
				perl -MIPC::Run -MJSON::PP -e1 2>/dev/null || missing+=' libipc-run-perl'
				;;
			*) die "harness_need: no \"$thing\"" ;;
		esac
	done
	if [ -n "$missing" ]; then
		install_packages $missing
		harness_need "$@"
	fi
}

has() { command -v "$1" >/dev/null; }

# Does this pg_config belong to a PostgreSQL that one can build for and run?
is_complete()
{
	[ -r "$("$1" --includedir-server 2>/dev/null)/postgres.h" ] &&
		[ -r "$("$1" --pgxs 2>/dev/null)" ] &&
		[ -x "$("$1" --bindir 2>/dev/null)/postgres" ]
}

# Settle on a PostgreSQL: the one that PG_CONFIG names, else any that is
# complete, else the newest that is half installed or can be installed.
need_postgres()
{
	local candidate version=

	if is_complete "$PG_CONFIG"; then
		PG_CONFIG=$(command -v "$PG_CONFIG")
		return
	fi
	case $PG_CONFIG in
		pg_config|/usr/bin/pg_config)
			for candidate in $(ls -rv /usr/lib/postgresql/*/bin/pg_config 2>/dev/null); do
				if is_complete "$candidate"; then
					PG_CONFIG=$candidate
					return
				fi
			done
			version=$(ls -v /usr/lib/postgresql 2>/dev/null | awk '$1 >= 15' | tail -n 1)
			[ -n "$version" ] || version=newest
			;;
		/usr/lib/postgresql/*/bin/pg_config)
			version=${PG_CONFIG#/usr/lib/postgresql/}
			version=${version%%/*}
			;;
		*) die "no complete PostgreSQL (server and headers) belongs to PG_CONFIG=$PG_CONFIG" ;;
	esac
	missing+=" postgresql-$version postgresql-server-dev-$version"
}

# Packages whose name ends in -newest are settled here, where apt's lists are
# fresh.
install_packages()
{
	local version= packages="$*"

	has apt-get || die "missing: $packages"
	if [ "$(id -u)" = 0 ]; then
		[ -z "${installed:-}" ] || die "installed, but still missing: $packages"
		installed=yes
		say "installing packages"
		apt-get update -qq || die "apt-get update failed"
	fi
	case $packages in
		*-newest*)
			for version in 18 17 16 15; do
				! apt-cache show "postgresql-server-dev-$version" >/dev/null 2>&1 || break
			done
			packages=${packages//-newest/-$version}
			;;
	esac
	[ "$(id -u)" = 0 ] ||
		die "Packages are missing. Type, as root, and try again:
apt-get update && apt-get install -y --no-install-recommends $packages"
	printf '%s\n' "$packages"
	apt_get_install $packages || die "apt-get install failed"
}

# Installing a server package creates and starts a cluster, and may start those
# that the administrator has stopped.  The packages' scripts find programs
# through PATH: for the time of the installation, and for nobody else, the two
# programs that would do so are ones that don't.
apt_get_install()
{
	mkdir "$work/shim"
	cat >"$work/shim/pg_createcluster" <<'END'
#!/bin/sh
exit 0
END
	cat >"$work/shim/invoke-rc.d" <<'END'
#!/bin/sh
for arg; do
	[ "$arg" != postgresql ] || exit 0
done
exec /usr/sbin/invoke-rc.d "$@"
END
	cp -p "$work/shim/invoke-rc.d" "$work/shim/deb-systemd-invoke"
	sed -i 's,^exec .*,exec /usr/bin/deb-systemd-invoke "$@",; s,!= postgresql,!= postgresql.service,' \
		"$work/shim/deb-systemd-invoke"
	chmod 755 "$work"/shim/*
	DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
		apt-get install -qq -y --no-install-recommends \
		-o "DPkg::Path=$work/shim:$system_path" "$@" \
		</dev/null >"$work/apt.log" 2>&1 || { tail -n 40 "$work/apt.log" >&2; return 1; }
	rm -r "$work/shim"
}

# --------------------------------------------------------------------------
# Build and stage
# --------------------------------------------------------------------------

harness_build()
{
	say "building for $("$PG_CONFIG" --version)"
	"$MAKE" -s -C "$top" -j"$(nproc)" PG_CONFIG="$PG_CONFIG" "$@" all || die "build failed"
}

# Lay out the copy as PostgreSQL is laid out, so that its programs, which find
# lib and share relative to themselves, find the copies.
harness_stage()
{
	local what dir

	for what in bindir pkglibdir sharedir; do
		dir=$("$PG_CONFIG" --$what)
		mkdir -p "$work/stage$dir"
		cp -aL "$dir/." "$work/stage$dir/" || die "could not copy $dir"
	done
	bindir=$work/stage$("$PG_CONFIG" --bindir)
	pgxs=$(dirname "$(dirname "$("$PG_CONFIG" --pgxs)")")
	"$MAKE" -s -C "$top" PG_CONFIG="$PG_CONFIG" DESTDIR="$work/stage" "$@" install >/dev/null ||
		die "make install failed"
	mkdir -p "$work/src/expected" "$work/src/test/isolation/expected"
	cp -a "$top/sql" "$top/expected" "$top/test" "$top/doc" "$work/src/"
	cp -a "$top"/{src,webhook.so,webhook.control,Makefile,META.json,README.md,CHANGELOG.md,LICENSE} "$work/src/"
	if [ "$(id -u)" = 0 ]; then
		user=nobody
		! id -u postgres >/dev/null 2>&1 || user=postgres
		chown -R "$(id -u $user):$(id -g $user)" "$work"
	fi
}

# fetch_packages DIRECTORY PACKAGE …: unpack Debian's packages there, without
# installing them: installed, they would start services, or change the server of
# the machine.  False: they can't be had.
fetch_packages()
{
	local dir=$1

	shift
	has apt-get && has dpkg || return 1
	# A machine on which nothing was missing may have no lists yet.
	if [ "$(id -u)" = 0 ] && ! apt-cache show "$1" >/dev/null 2>&1 && [ -z "${updated:-}" ]; then
		timeout 60 apt-get update -qq >>"$work/fetch.log" 2>&1
		updated=yes
	fi
	mkdir -p "$dir/deb"
	(cd "$dir/deb" && timeout 60 apt-get -qq -o APT::Sandbox::User=root download "$@" &&
		for package in *.deb; do dpkg -x "$package" .. || exit 1; done) >>"$work/fetch.log" 2>&1
}

# harness_unpack PACKAGE PROGRAM: see that the run has a program of a package, if that
# can be had.
harness_unpack()
{
	! has "$2" || return 0
	fetch_packages "$work/unpack" "$1" &&
		mv "$work/unpack/usr"/*bin/"$2" "$bindir/" ||
		say "no $1: what needs it is skipped"
	rm -rf "$work/unpack"
}

# harness_neighbours: see that the run has the extensions that Debian has for this
# PostgreSQL and that are often installed beside ours, and pgbouncer.
harness_neighbours()
{
	local version name dir=$work/neighbours

	version=$("$PG_CONFIG" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
	for name in cron pgaudit partman; do
		if fetch_packages "$dir/$name" "postgresql-$version-$name"; then
			cp "$dir/$name/usr/lib/postgresql/$version/lib"/*.so "$work/stage$("$PG_CONFIG" --pkglibdir)/"
			cp "$dir/$name/usr/share/postgresql/$version/extension"/* "$work/stage$("$PG_CONFIG" --sharedir)/extension/"
		else
			say "no postgresql-$version-$name: a part of a test is skipped"
		fi
	done
	has pgbouncer || fetch_pgbouncer "$dir" || say "no pgbouncer: a part of a test is skipped"
	rm -rf "$dir"
}

# With the libraries that it needs and the machine lacks.
fetch_pgbouncer()
{
	local dir=$1 libraries=

	fetch_packages "$dir/pgbouncer" pgbouncer || return 1
	if ldd "$dir/pgbouncer/usr/sbin/pgbouncer" | grep -q 'not found'; then
		libraries=$(dpkg-deb -f "$dir/pgbouncer/deb"/*.deb Depends | tr ',' '\n' | sed -nE 's/^ *(lib[^ ]*).*/\1/p' | grep -v '^libc6$')
		fetch_packages "$dir/libraries" $libraries || return 1
		mkdir "$work/stage/pgbouncer"
		find "$dir/libraries" -name '*.so*' -exec cp -P {} "$work/stage/pgbouncer/" \;
	fi
	mv "$dir/pgbouncer/usr/sbin/pgbouncer" "$bindir/pgbouncer.bin" &&
		printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$work/stage/pgbouncer" "$bindir/pgbouncer.bin" >"$bindir/pgbouncer" &&
		chmod 755 "$bindir/pgbouncer"
}

# harness_valgrind: have the servers run under valgrind, each process with a log
# in $work/out/valgrind.
harness_valgrind()
{
	mv "$bindir/postgres" "$bindir/postgres.bin"
	cat >"$bindir/postgres" <<END
#!/bin/sh
case " \$* " in
	*" -V "*|*" --version "*|*" -C "*|*" --boot "*|*" --single "*|*" --check "*) exec $bindir/postgres.bin "\$@" ;;
esac
exec valgrind -q --leak-check=no --run-libc-freeres=no --suppressions=$work/src/test/lib/valgrind.supp \\
	--fullpath-after=$top/ --log-file=$work/out/valgrind/%p.log $bindir/postgres.bin "\$@"
END
	chmod 755 "$bindir/postgres"
	mkdir "$work/out/valgrind"
	[ -z "$user" ] || chown "$user" "$work/out/valgrind"
}

# harness_run COMMAND …: run it in $work/src, as the unprivileged user, in a
# session of its own (so that a ^C reaches us, and we it), with our copy of
# PostgreSQL first in PATH.  Further variables are given as NAME=value.
harness_run()
{
	local drop=() path=$PATH status

	if [ -n "$user" ]; then
		drop=(setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups)
		path=$system_path
	fi
	cd "$work/src" || exit 1
	setsid "${drop[@]}" env -i --default-signal=INT,QUIT \
		PATH="$bindir:$path" HOME="$work/tmp" TMPDIR="$work/tmp" LC_ALL=C.UTF-8 \
		PYTHONDONTWRITEBYTECODE=1 PGUSER=postgres \
		work="$work" bindir="$bindir" pgxs="$pgxs" PG_CONFIG="$PG_CONFIG" MAKE="$MAKE" "$@" </dev/null &
	runner=$!
	wait "$runner"
	status=$?
	cd /
	return "$status"
}
