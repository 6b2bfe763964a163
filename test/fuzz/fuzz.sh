# fuzz.sh
#	  Fuzz each target in a backend of a private cluster.
#
# Runs as the unprivileged user, called by test/fuzz/run, in $work/src.

set -u
out=$work/out
failed=0
export PGHOST=$work/tmp PGPORT=5432 PGDATABASE=postgres
export UBSAN_OPTIONS=print_stacktrace=1:log_path=$out/ubsan

initdb -D "$work/fuzz" -U postgres -A trust -E UTF8 --no-locale -N >"$out/initdb.log" 2>&1 ||
	{ cat "$out/initdb.log"; exit 1; }
LD_PRELOAD=$ubsan pg_ctl -s -w -D "$work/fuzz" -l "$out/server.log" \
	-o "-k $work/tmp -c listen_addresses= -c max_stack_depth=1MB" start || { cat "$out/server.log"; exit 1; }
psql -X -q -c "CREATE FUNCTION webhook_fuzz(target text, arguments text[]) RETURNS integer LANGUAGE c STRICT AS '\$libdir/webhook'" || exit 1

for target in ${targets:-template names cron networks retry_after xml}; do
	mkdir -p "$out/new/$target" "$out/found"
	logged=$(stat -c %s "$out/server.log")
	timeout $((seconds + 60)) psql -X -q -A -t -c "SELECT webhook_fuzz('$target', '{webhook_fuzz,-max_total_time=$seconds,-max_len=512,-timeout=5,-rss_limit_mb=2048,-print_final_stats=1,-artifact_prefix=$out/found/$target-,$out/new/$target,$work/src/test/fuzz/corpus/$target}')" \
		>"$out/$target.log" 2>&1
	done=$(tail -c "+$((logged + 1))" "$out/server.log" | grep -o 'stat::number_of_executed_units: .*' | tail -n 1 | grep -o '[0-9]*$')
	if [ -z "$done" ] || ls "$out/found/$target"-* >/dev/null 2>&1; then
		echo "$target: FAILED"
		grep -hE 'broken:|SUMMARY|runtime error|ERROR: ' "$out/server.log" "$out"/ubsan* 2>/dev/null | tail -n 5
		failed=$((failed + 1))
		pg_ctl -s -w -D "$work/fuzz" status >/dev/null || exit 1
	else
		echo "$target: ok, ${done:-0} inputs, $(ls "$out/new/$target" | wc -l) of them new"
	fi
	if [ -n "$merge" ]; then
		# The smallest ones that reach all that was reached.  libFuzzer starts
		# itself again for that, which here is another backend.
		cat >"$out/again" <<-END
			#!/bin/sh
			exec psql -X -q -A -t -c "SELECT webhook_fuzz('$target', string_to_array('\$0 \$*', ' '))"
		END
		chmod +x "$out/again"
		mkdir -p "$out/corpus/$target"
		timeout 300 "$out/again" -merge=1 -max_len=512 "$out/corpus/$target" "$out/new/$target" \
			"$work/src/test/fuzz/corpus/$target" >>"$out/$target.log" 2>&1
	fi
	# libFuzzer ends the process that it ran in.
	until psql -X -q -c '' >/dev/null 2>&1; do sleep 0.2; done
done
pg_ctl -s -D "$work/fuzz" -m immediate stop
echo "$failed targets failed"
[ "$failed" = 0 ]
