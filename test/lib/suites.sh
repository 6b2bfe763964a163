# suites.sh
#	  Run the tests on private clusters: pg_regress, isolation specs, TAP.
#
# Runs as the unprivileged user, called by test/run, in $work/src.  $1 selects:
# words like regress, regress:enqueue, isolation:first, tap:010; empty is all.

set -u
passed=0
failed=0
out=$work/out

# wanted KIND FILE …: those of the files, by their bare names, that are wanted
wanted()
{
	local kind=$1 file name word

	shift
	for file; do
		[ -e "$file" ] || continue
		name=$(basename "$file")
		name=${name%.*}
		for word in ${selection:-regress isolation tap}; do
			case $word in
				"$kind"|"$kind:$name") echo "$name"; break ;;
				"$kind":[0-9]*) case $name in "${word#*:}"_*) echo "$name"; break ;; esac ;;
			esac
		done
	done
}

# The cluster of pg_regress and the isolation specs.
start_cluster()
{
	export PGHOST=$work/tmp PGPORT=5432
	initdb -D "$work/regress" -U postgres -A trust -E UTF8 --no-locale -N >"$out/initdb.log" 2>&1 ||
		{ cat "$out/initdb.log"; exit 1; }
	cat test/regress.conf >>"$work/regress/postgresql.conf"
	pg_ctl -s -w -D "$work/regress" -l "$out/regress_server.log" \
		-o "-k $work/tmp -c listen_addresses=" start || { cat "$out/regress_server.log"; exit 1; }
}

# count_summary FILE: add up the runner's own summary line
count_summary()
{
	local bad all

	bad=$(sed -nE 's/.*[^0-9]([0-9]+) of ([0-9]+) tests failed.*/\1/p' "$1")
	all=$(sed -nE 's/.*[^0-9]([0-9]+) of ([0-9]+) tests failed.*/\2/p; s/.*All ([0-9]+) tests passed.*/\1/p' "$1")
	failed=$((failed + ${bad:-0}))
	passed=$((passed + ${all:-0} - ${bad:-0}))
	[ -n "$all" ] || failed=$((failed + 1))
}

# regress KIND PROGRAM INPUTDIR DATABASE OPTION … -- TEST …
regress()
{
	local kind=$1 program=$2 inputdir=$3 database=$4 name

	shift 4
	mkdir "$out/$kind"
	# A test that nobody has written down the result of yet fails like any other,
	# rather than end the run; its result is kept with the others'.
	for name in $(wanted "$kind" "$inputdir"/sql/*.sql "$inputdir"/specs/*.spec); do
		[ -e "$inputdir/expected/$name.out" ] || : >"$inputdir/expected/$name.out"
	done
	echo "== $kind"
	"$pgxs/test/$program" --inputdir="$inputdir" --outputdir="$out/$kind" --bindir="$bindir" \
		--dbname="$database" --encoding=UTF8 --no-locale "$@" 2>&1 | tee "$out/$kind/summary"
	count_summary "$out/$kind/summary"
	if [ -s "$out/$kind/regression.diffs" ]; then
		head -n 400 "$out/$kind/regression.diffs"
		grep -hE 'PANIC|FATAL|TRAP|terminated by signal' "$out/regress_server.log" | tail -n 20
	fi
}

tap()
{
	local files=() name bad all dir=$work/tap

	for name; do
		files+=("test/tap/$name.pl")
	done
	mkdir -p "$dir"
	echo "== tap"
	export TESTDIR=$dir TESTDATADIR=$dir/tmp_check TESTLOGDIR=$dir/tmp_check/log
	export PG_REGRESS=$pgxs/test/regress/pg_regress PGPORT=65432 top_builddir=$work
	unset PGHOST PGUSER
	prove -I "$pgxs/test/perl" -I test/lib --timer ${PROVE_FLAGS:-} "${files[@]}" 2>&1 | tee "$out/tap_summary"
	bad=$(sed -nE 's,^test/tap/(.*)\.pl +\(Wstat.*,\1,p' "$out/tap_summary")
	for name in $bad; do
		echo "== end of the log of $name"
		tail -n 60 "$dir/tmp_check/log/regress_log_$name"
		grep -hE 'PANIC|TRAP|terminated by signal|webhook.*(ERROR|FATAL)' "$dir/tmp_check/log/${name}"_*.log | tail -n 20
		# Last, as some see no more than the end: what failed, and with what.
		echo "== what failed in $name"
		awk '/^\[.*s\) not ok / { left = 16 } /^\[.*s\) ok / { left = 0 } left-- > 0 && NF > 1' \
			"$dir/tmp_check/log/regress_log_$name" | cut -c 1-200 | tail -n 40
		grep -E ' at .* line [0-9]+\.$' "$dir/tmp_check/log/regress_log_$name" | tail -n 3
		failed=$((failed + 1))
	done
	all=$(sed -nE 's/^Files=([0-9]+),.*/\1/p' "$out/tap_summary")
	[ -n "$all" ] || { all=0; failed=$((failed + 1)); }
	passed=$((passed + all - $(echo $bad | wc -w)))
	[ -z "$bad" ] || cp -r "$dir/tmp_check/log" "$out/tap_log"
}

selection=${1:-}
for word in $selection; do
	case $word in
		regress|regress:*|isolation|isolation:*|tap|tap:*) ;;
		*) echo "TESTS: no \"$word\": regress, isolation or tap, each with :name or alone" >&2; exit 1 ;;
	esac
done
regress_tests=$(wanted regress sql/*.sql)
isolation_tests=$(wanted isolation test/isolation/specs/*.spec)
tap_tests=$(wanted tap test/tap/*.pl)
[ -n "$regress_tests$isolation_tests$tap_tests" ] || { echo "no such test: $selection" >&2; exit 1; }

[ -z "$regress_tests$isolation_tests" ] || start_cluster
[ -z "$regress_tests" ] ||
	regress regress regress/pg_regress . contrib_regression_webhook $regress_tests
[ -z "$isolation_tests" ] ||
	regress isolation isolation/pg_isolation_regress test/isolation isolation_regression_webhook \
		--load-extension=webhook $isolation_tests
[ -z "$regress_tests$isolation_tests" ] || pg_ctl -s -D "$work/regress" -m fast stop
[ -z "$tap_tests" ] || tap $tap_tests

# A report is a block of lines that a line without text ends.
if [ -d "$out/valgrind" ]; then
	echo "== valgrind"
	cat "$out/valgrind"/*.log | awk -v RS='==[0-9]+== \n' '/\(src\/[a-z_]+\.c:|webhook\.so/ { print; bad++ }
		END { printf "%d reports\n", bad; exit bad > 0 }' >"$out/valgrind_reports" || failed=$((failed + 1))
	tail -n 100 "$out/valgrind_reports"
fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
