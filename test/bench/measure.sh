# test/bench/measure.sh
#	  What `make bench` runs, as an unprivileged user: builds the receiver and
#	  the program that shows the limit, starts a cluster, measures.

set -e
out=$work/out
data=$work/bench
export PGHOST=$work/tmp PGPORT=5432 PGDATABASE=postgres

gcc -O2 -Wall -Wextra test/bench/sink.c -o "$out/sink"
gcc -O2 -Wall -Wextra test/bench/limit.c $(pkg-config --cflags --libs libcurl) -o "$out/limit"

initdb -D "$data" -A trust --no-sync >"$out/initdb.log"
cat >>"$data/postgresql.conf" <<END
shared_preload_libraries = 'webhook'
webhook.allowed_networks = '127.0.0.0/8'
listen_addresses = ''
unix_socket_directories = '$PGHOST'
shared_buffers = 512MB
max_wal_size = 8GB
checkpoint_timeout = 30min
END
pg_ctl -s -D "$data" -l "$out/server.log" -w start
trap 'pg_ctl -s -D "$data" -m immediate stop' EXIT
psql -X -q -c 'CREATE EXTENSION webhook'
echo "== measuring: a few minutes"
python3 test/bench/bench.py --sink "$out/sink" --limit "$out/limit" --directory "$out" \
	--json "$out/bench.json" $quick
