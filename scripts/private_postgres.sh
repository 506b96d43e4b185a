#!/usr/bin/env bash
# Manages a private PostgreSQL server on a free port.
#
#   private_postgres.sh start DIR          starts the server in DIR and prints its URL; creates the cluster first if DIR has none
#   private_postgres.sh stop DIR [MODE]    stops the server (MODE: fast or immediate); does not remove DIR
#   private_postgres.sh guard DIR          waits until no program holds a lock on DIR.users, then stops the server and removes DIR
#   private_postgres.sh install            installs PostgreSQL if the machine has no PostgreSQL server
#
# A server that is started again in the same DIR has the same port. POSTGRES_OPTIONS can contain more server options, for
# example "-c fsync=off". Without such options, the server has PostgreSQL's default durability.
set -euo pipefail

fail() { echo "private_postgres.sh: $*" >&2; exit 1; }

[[ ($# -ge 2 && $1 =~ ^(start|stop|guard)$) || $* == install ]] ||
    fail "usage: private_postgres.sh start|stop|guard DIR, or private_postgres.sh install"
verb=$1
directory=$(realpath -m -- "${2:-.}")
mode=${3:-fast}
data=$directory/data

# Debian's server programs are not in PATH, and pg_config may belong to an installation without a server.
find_binaries() {
    for candidate in "$(pg_config --bindir 2>/dev/null || true)" $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV); do
        if [[ -x $candidate/initdb && -x $candidate/postgres ]]; then echo "$candidate"; return; fi
    done
}
binaries=$(find_binaries)
if [[ -z $binaries && $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; then
    echo "private_postgres.sh: installing postgresql" >&2
    apt-get -qq update >&2 && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y postgresql >&2 || true
    binaries=$(find_binaries)
fi
[[ -n $binaries ]] || fail "no PostgreSQL server found; hint: apt-get install postgresql"

# The server refuses to run as root, and needs a working directory that its user can read.
as_server() { (cd / && if [[ $(id -u) -eq 0 ]]; then runuser -u postgres -- "$@"; else "$@"; fi); }
running() { [[ -f $data/PG_VERSION ]] && as_server "$binaries/pg_ctl" -D "$data" status >/dev/null; }
stop() { ! running || as_server "$binaries/pg_ctl" -D "$data" -m "$1" -w stop >/dev/null; }

case $verb in
    install)
        exit 0
        ;;
    stop)
        stop "$mode"
        exit 0
        ;;
    guard)
        exec 9>"$directory.users"
        while true; do
            flock -x 9
            flock -u 9
            # Waits a moment, because another test program may start soon and use the same server.
            sleep 3
            if flock -x -n 9; then
                stop immediate
                rm -rf "$directory"
                exit 0
            fi
        done
        ;;
esac

if ! running; then
    if [[ ! -f $data/PG_VERSION ]]; then
        mkdir -p "$directory"
        # The finished cluster is renamed, so that an interrupted start leaves no incomplete cluster.
        new=$directory/data.new
        rm -rf "$new"
        [[ -z $(ls -A "$directory") ]] || fail "$directory is not empty and contains no cluster; hint: name a new directory"
        [[ $(id -u) -ne 0 ]] || chown postgres: "$directory"
        as_server "$binaries/initdb" -D "$new" -U postgres -A trust -E UTF8 --no-locale --no-sync >/dev/null
        # Members of the role password_required must give a password. Other roles need no password.
        sed -i '1i host all +password_required all scram-sha-256' "$new/pg_hba.conf"
        python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])' \
            >"$new/port"
        mv "$new" "$data"
    fi
    as_server "$binaries/pg_ctl" -D "$data" -w -t 60 -l "$directory/server.log" -o "-p $(<"$data/port") \
        -c listen_addresses=127.0.0.1 -c unix_socket_directories='$directory' ${POSTGRES_OPTIONS:-}" start >/dev/null || {
        tail -n 20 "$directory/server.log" >&2 || true
        fail "the server did not start; hint: see $directory/server.log"
    }
fi
echo "postgresql://postgres@127.0.0.1:$(<"$data/port")/postgres"
