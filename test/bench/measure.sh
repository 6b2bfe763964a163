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
trap 'pg_ctl -s -D "$data" -m immediate stop; [ -z "$nginx" ] || kill "$nginx"' EXIT
psql -X -q -c 'CREATE EXTENSION webhook'

# A receiver that speaks HTTP/2.
nginx=
tls=
if command -v nginx >/dev/null; then
	dir=$work/nginx
	mkdir "$dir"
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
		-addext subjectAltName=IP:127.0.0.1 -keyout "$dir/key.pem" -out "$dir/ca.pem" 2>"$out/openssl.log"
	port=$(python3 -c 'import socket; s = [socket.create_server(("127.0.0.1", 0)) for i in range(2)]; print(*[x.getsockname()[1] for x in s])')
	cat >"$dir/nginx.conf" <<END
daemon off;
worker_processes 1;
pid $dir/pid;
error_log $dir/error.log;
events { worker_connections 1024; }
http {
	access_log off;
	keepalive_requests 100000000;
	http2_max_requests 100000000;
	client_body_temp_path $dir/body;
	proxy_temp_path $dir/proxy;
	fastcgi_temp_path $dir/fastcgi;
	uwsgi_temp_path $dir/uwsgi;
	scgi_temp_path $dir/scgi;
	server {
		listen 127.0.0.1:${port% *};
		listen 127.0.0.1:${port#* } ssl http2;
		ssl_certificate $dir/ca.pem;
		ssl_certificate_key $dir/key.pem;
		location / { return 200 "ok"; }
	}
}
END
	nginx -c "$dir/nginx.conf" 2>"$out/nginx.log" &
	nginx=$!
	tls="--http http://127.0.0.1:${port% *}/ --https https://127.0.0.1:${port#* }/ --ca $dir/ca.pem"
fi

echo "== measuring: $([ -n "$quick" ] && echo "less than five minutes" || echo "half an hour")"
python3 test/bench/bench.py --sink "$out/sink" --limit "$out/limit" --directory "$out" \
	--json "$out/bench.json" $tls $quick ${only:+--only "$only"}
