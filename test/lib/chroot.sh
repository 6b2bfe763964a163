# chroot.sh
#	  What `make matrix` and `make deb` have in common: Debian releases in
#	  chroots, one for each PostgreSQL that Debian has.
#
# To be sourced by bash after harness.sh, by root:
#
#	harness_begin
#	chroot_begin
#	chroot_make ROOT VERSION PACKAGE …
#	chroot_run ROOT [NAME=value …] COMMAND …
#
# Chroots lie in $work and go with it, or, where MATRIX_DIR names a directory, stay
# there for the next run.  Where the packages come from is taken from this machine's
# own apt, and so is what it takes to reach them: proxies and the like.
#
# What runs in a chroot has mounts and processes of its own, which end with it: there
# is nothing to unmount, however a run ends, and nothing of this machine's /dev or /proc
# in the directory that is removed.

chroot_versions="15 17 18"

# The Debian release that has a version of PostgreSQL.  None has 16.
chroot_suite()
{
	case $1 in
		15) echo bookworm ;;
		17) echo trixie ;;
		18) echo sid ;;
		*) die "Debian has no PostgreSQL $1: MATRIX may name any of $chroot_versions" ;;
	esac
}

chroot_begin()
{
	local missing= version

	trap chroot_end EXIT
	[ "$(id -u)" = 0 ] || die "chroots need root"
	for version in ${MATRIX:-$chroot_versions}; do
		chroot_suite "$version" >/dev/null || exit 1
	done
	has mmdebstrap || missing+=' mmdebstrap'
	has unshare || missing+=' util-linux'
	[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=' debian-archive-keyring'
	has git || missing+=' git'
	[ -z "$missing" ] || install_packages $missing
	mirror=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' |
		sed -nE 's/^Debian Debian //p' | head -n 1)
	[ -n "$mirror" ] || die "apt knows no source of Debian packages here, or has to be updated: apt-get update"
	chroots=$work
	if [ -n "${MATRIX_DIR:-}" ]; then
		mkdir -p "$MATRIX_DIR" && chroots=$(cd "$MATRIX_DIR" && pwd -P) || exit 1
	fi
	# Unstable's lists may be older than they say that they may be.
	{
		apt-config dump | grep -E '^Acquire::((https?|ftp)::|Check-)' | grep -v ' "";$'
		echo 'Acquire::Check-Valid-Until "false";'
		echo 'Acquire::Languages "none";'
		echo 'APT::Install-Recommends "false";'
	} >"$work/apt.conf"
}

# A signal does not wait for what runs in a chroot, of which nothing is left behind.
chroot_end()
{
	local status=$?

	if [ -n "$runner" ]; then
		kill -KILL -- "-$runner" 2>/dev/null
		wait "$runner" 2>/dev/null
	fi
	(exit "$status")
	harness_end
}

# chroot_run ROOT [NAME=value …] COMMAND …
chroot_run()
{
	local root=$1 status

	shift
	setsid unshare --mount --pid --ipc --uts --fork --kill-child --mount-proc="$root/proc" sh -c '
		mount -t tmpfs -o mode=1777 tmpfs "$1/dev/shm" &&
		cp -L /etc/resolv.conf "$1/etc/resolv.conf" && cp -L /etc/hosts "$1/etc/hosts" &&
		exec chroot "$@"' sh "$root" \
		/usr/bin/env -i PATH="$system_path" HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
		"$@" </dev/null &
	runner=$!
	wait "$runner"
	status=$?
	runner=
	return "$status"
}

# chroot_base VERSION: the bare release, made if it isn't there; sets base.
chroot_base()
{
	local suite

	suite=$(chroot_suite "$1") || exit 1
	base=$chroots/$suite
	[ ! -e "$base/.complete" ] || return 0
	rm -rf "$base"
	mmdebstrap --quiet --variant=minbase --aptopt="$work/apt.conf" "$suite" "$base" \
		"deb $mirror $suite main" >"$work/mmdebstrap.log" 2>&1 ||
		{ tail -n 20 "$work/mmdebstrap.log" >&2; die "mmdebstrap failed"; }
	# Nothing is to be started by being installed.
	printf '#!/bin/sh\nexit 101\n' >"$base/usr/sbin/policy-rc.d"
	chmod 755 "$base/usr/sbin/policy-rc.d"
	echo force-unsafe-io >"$base/etc/dpkg/dpkg.cfg.d/unsafe-io"
	mkdir -p "$base/etc/postgresql-common"
	echo 'create_main_cluster = false' >"$base/etc/postgresql-common/createcluster.conf"
	touch "$base/.complete"
}

# chroot_make ROOT VERSION PACKAGE …: a fresh copy of the release, with packages.
chroot_make()
{
	local root=$1 version=$2

	shift 2
	chroot_base "$version"
	rm -rf "$root"
	cp -a --reflink=auto "$base" "$root" && rm "$root/.complete" || die "could not copy $base"
	chroot_install "$root" "$@"
}

chroot_upgrade()
{
	chroot_run "$1" sh -c 'apt-get update -qq && apt-get dist-upgrade -qq -y' >"$work/apt.log" 2>&1 ||
		{ tail -n 40 "$work/apt.log" >&2; die "apt-get dist-upgrade failed"; }
}

chroot_install()
{
	local root=$1

	shift
	chroot_run "$root" sh -c 'apt-get update -qq && apt-get install -qq -y "$@"' sh "$@" \
		>"$work/apt.log" 2>&1 || { tail -n 40 "$work/apt.log" >&2; die "apt-get install failed"; }
}

# chroot_copy_tree ROOT/DIRECTORY: the project as it is here, without what was built
# or ignored.
chroot_copy_tree()
{
	mkdir -p "$1" || exit 1
	if git -C "$top" rev-parse >/dev/null 2>&1; then
		git -C "$top" ls-files -z --cached --others --exclude-standard |
			(cd "$top" && xargs -0 sh -c 'for f; do [ ! -e "$f" ] || printf "%s\0" "$f"; done' sh) |
			tar -C "$top" --null --files-from=- --owner=0 --group=0 -c | tar -C "$1" -x
	else
		tar -C "$top" --owner=0 --group=0 --exclude='*.o' --exclude='*.bc' --exclude='*.so' --exclude='./tmp_check*' \
			--exclude=./deb -c . | tar -C "$1" -x
	fi || die "could not copy $top"
}
