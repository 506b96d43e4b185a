#!/usr/bin/env bash
# Prepares the project's virtual environment (.venv) with everything that the project's commands need.
#
#   scripts/setup.sh NAME [dev|release|wheel]
#
# NAME is a file of requirements/, without its suffix. The script installs the packages of this file. With the profile dev or
# release, it also builds the extension module. With wheel, it also checks that the compilers exist, but builds nothing. A second
# run is cheap: packages are installed again only if their lock file has changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

name=${1:?"name a file of requirements/, for example: scripts/setup.sh test dev"}
profile=${2:-}
lock=requirements/$name.txt
venv=.venv
stamp=$venv/installed-$name

say() { printf 'setup: %s\n' "$*" >&2; }
fail() {
    say "$1"
    [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

[ -f "$lock" ] || fail "the file $lock does not exist" "name a file of requirements/, without its suffix"
case "$profile" in
    "" | dev | release | wheel) ;;
    *) fail "the profile is '$profile', but must be dev, release or wheel" ;;
esac

# The settings of another active environment must not affect this environment.
unset PYTHONHOME PYTHONPATH CONDA_PREFIX

# install_debian PACKAGE… : installs packages with apt-get; fails if this is not possible.
install_debian() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    say "installing $*"
    apt-get -qq update >&2 && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y "$@" >&2
}

# Called first, so that a missing compiler is reported before the packages are installed, which takes minutes.
find_compilers() {
    local needed has
    # rustup installs cargo in CARGO_HOME/bin. A shell that was started before that installation does not have this folder in
    # its PATH.
    command -v cargo >/dev/null || PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
    needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    command -v cargo >/dev/null && command -v rustc >/dev/null ||
        fail "cargo was not found" "install a Rust toolchain, version $needed or newer, for example with rustup"
    has=$(rustc --version | cut -d ' ' -f 2)
    [ "$(printf '%s\n' "$needed" "$has" | sort -V | head -n 1)" = "$needed" ] ||
        fail "Rust $has is too old" "version $needed or newer is needed: rustup update"
    command -v cc >/dev/null || install_debian gcc libc6-dev ||
        fail "no C compiler was found" "apt-get install gcc libc6-dev"
}

# Prints the path of the base interpreter, because this script may recreate the virtual environment that is active.
find_python() {
    local candidate
    local probe='import sys; sys.version_info >= (3, 11) or sys.exit(1); print(sys._base_executable)'
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        ! "$candidate" -c "$probe" 2>/dev/null || return 0
    done
    fail "no Python 3.11 or newer was found" "install python3 (Debian 12 or newer has it)"
}

# Creates the environment. If that fails, removes the incomplete environment, so that the next run starts from scratch.
make_venv() {
    local python
    python=$(find_python)
    say "creating $venv with $("$python" --version)"
    rm -rf "$venv"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        install_debian python3-venv ||
            fail "$python cannot create virtual environments" "apt-get install python3-venv"
    fi
    if ! "$python" -m venv "$venv"; then
        rm -rf "$venv"
        fail "could not create $venv"
    fi
}

checksum() { sha256sum "$lock" | cut -d ' ' -f 1; }

[ -z "$profile" ] || find_compilers

if ! "$venv/bin/python" -c '' 2>/dev/null; then
    make_venv
elif [ -f "$stamp" ] && [ "$(cat "$stamp")" != "$(checksum)" ]; then
    say "$lock changed"
    make_venv
fi

if [ ! -f "$stamp" ]; then
    say "installing the packages of $lock"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$lock"
    checksum >"$stamp"
fi

# The tests start PostgreSQL servers. PostgreSQL is installed here, because an installation takes longer than a test may.
if [ "$name" = test ] && [ -n "$profile" ] && [ "$profile" != wheel ]; then
    scripts/private_postgres.sh install || say "without PostgreSQL, many tests will fail"
    # One test needs a real transaction pooler, and is skipped if there is none.
    [ -x /usr/sbin/pgbouncer ] || install_debian pgbouncer ||
        say "pgbouncer was not found: its test will be skipped; hint: apt-get install pgbouncer"
fi

case "$profile" in
    "" | wheel) exit 0 ;;
esac

arguments=(develop --quiet)
[ "$profile" = dev ] || arguments+=(--release)
[ -z "${CI:-}" ] || arguments+=(--locked)
say "building cloaca ($profile; the first time takes some minutes)"
export VIRTUAL_ENV=$PWD/$venv PYO3_PYTHON=$PWD/$venv/bin/python PIP_QUIET=1
"$venv/bin/maturin" "${arguments[@]}" &>"$venv/build.log" || {
    cat "$venv/build.log" >&2
    exit 1
}
# Compiles the package once, so that its first import is as fast as with an installed wheel, even if Python cannot write bytecode.
"$venv/bin/python" -m compileall -q python/cloaca
