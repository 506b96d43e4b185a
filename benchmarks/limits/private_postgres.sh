#!/usr/bin/env bash
# A PostgreSQL server of one's own on a free port, with default durability.
#
#   private_postgres.sh start DIR    creates the cluster in DIR if there is none, starts it, prints its URL
#   private_postgres.sh stop DIR     stops it and leaves DIR to the caller
set -euo pipefail

fail() { echo "private_postgres.sh: $*" >&2; exit 1; }

[[ $# -eq 2 && ($1 == start || $1 == stop) ]] || fail "usage: private_postgres.sh start|stop DIR"
verb=$1
directory=$(realpath -m -- "$2")
data=$directory/data

# Debian keeps the server's programs out of PATH, and pg_config may name a client-only installation.
binaries=
for candidate in "$(pg_config --bindir 2>/dev/null || true)" $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV); do
    if [[ -x $candidate/initdb && -x $candidate/postgres ]]; then binaries=$candidate; break; fi
done
[[ -n $binaries ]] || fail "no PostgreSQL server found; hint: apt-get install postgresql"

# The server refuses to run as root. It must not start in a directory that its user cannot read.
as_server() { (cd / && if [[ $(id -u) -eq 0 ]]; then runuser -u postgres -- "$@"; else "$@"; fi); }
running() { [[ -f $data/PG_VERSION ]] && as_server "$binaries/pg_ctl" -D "$data" status >/dev/null; }

if [[ $verb == stop ]]; then
    running || exit 0
    as_server "$binaries/pg_ctl" -D "$data" -m fast -w stop >/dev/null
    exit 0
fi

if ! running; then
    if [[ ! -f $data/PG_VERSION ]]; then
        mkdir -p "$directory"
        [[ -z $(ls -A "$directory") ]] || fail "$directory is not empty and holds no cluster; hint: name a new directory"
        [[ $(id -u) -ne 0 ]] || chown postgres: "$directory"
        as_server "$binaries/initdb" -D "$data" -U postgres -A trust -E UTF8 --no-locale >/dev/null
    fi
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    as_server "$binaries/pg_ctl" -D "$data" -w -l "$directory/server.log" \
        -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='$directory'" start >/dev/null ||
        fail "the server did not start; see $directory/server.log"
fi
echo "postgresql://postgres@127.0.0.1:$(sed -n 4p "$data/postmaster.pid")/postgres"
