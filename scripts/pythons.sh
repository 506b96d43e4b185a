#!/usr/bin/env bash
# Creates a virtual environment for each supported Python newer than 3.11, and prints the paths of the interpreters.
#
#   scripts/pythons.sh [FOLDER]
#
# The default FOLDER is .pythons. For each version, the script uses this machine's interpreter (from PATH or pyenv) if there is
# one. Otherwise it unpacks Debian's interpreter into FOLDER. Each environment gets the packages of requirements/test.txt.
# A second run is cheap: an environment is created again only if its interpreter, this script or the lock file has changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=$(realpath --canonicalize-missing "${1:-.pythons}")
lock=requirements/test.txt
# For each Python version, the Debian release that contains it. No release contains 3.12.
releases=(3.12= 3.13=trixie 3.14=forky)

say() { printf 'pythons: %s\n' "$*" >&2; }
fail() {
    say "$1"
    [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

# The settings of an active environment must not affect these environments.
unset PYTHONHOME PYTHONPATH CONDA_PREFIX

checksum() { cat scripts/pythons.sh "$lock" | sha256sum | cut -d ' ' -f 1; }

is_ready() {
    "$1/venv/bin/python" -c '' 2>/dev/null && [ "$(cat "$1/installed" 2>/dev/null)" = "$(checksum)" ]
}

# Prints the path of this machine's interpreter of a version, if there is one.
find_installed() {
    local candidate
    local probe='import sqlite3, ssl, sys, venv; print(sys._base_executable)'
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        ! "$candidate" -c "$probe" 2>/dev/null || break
    done
}

find_tools() {
    if command -v mmdebstrap >/dev/null && command -v patchelf >/dev/null; then return; fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        fail "mmdebstrap or patchelf was not found" "apt-get install mmdebstrap patchelf"
    fi
    say "installing mmdebstrap and patchelf"
    apt-get -qq update >&2
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y mmdebstrap patchelf >&2
}

# Prints the Debian mirror that this machine uses.
find_mirror() {
    local mirror
    # shellcheck disable=SC2016 # apt-get expands $(SITE).
    mirror=$(apt-get indextargets --format '$(SITE)' 'Origin: Debian' 'Created-By: Packages' | awk '!/security/ && !found++')
    [ -n "$mirror" ] || fail "apt knows no Debian mirror" "run apt-get update; the machine must run Debian"
    echo "$mirror"
}

# unpack_debian VERSION RELEASE SYSTEM : unpacks an interpreter, with its libraries, into the folder SYSTEM.
unpack_debian() {
    local version=$1 release=$2 system=$3
    local mirror python=$system/usr/bin/python$version
    find_tools
    mirror=$(find_mirror)
    say "unpacking Python $version of Debian $release"
    # An outdated mirror is acceptable for tests. The signatures are still checked.
    mmdebstrap --quiet --variant=extract --aptopt='Acquire::Check-Valid-Until "false"' \
        --include="python$version" "$release" "$system" "$mirror" >&2
    # This machine's C library may be too old for the interpreter, so the interpreter uses the unpacked C library. The search
    # path is stored as DT_RPATH, because the libraries that extension modules need are also searched in the program's DT_RPATH,
    # but not in its DT_RUNPATH.
    patchelf --set-interpreter "$system/usr$(patchelf --print-interpreter "$python")" \
        --force-rpath --set-rpath "$(echo "$system"/usr/lib/*-linux-gnu)" "$python"
}

# make_environment PYTHON PLACE : creates the environment of an interpreter in PLACE, and installs the packages.
make_environment() {
    local python=$1 place=$2
    say "installing the packages of $lock for $("$python" --version)"
    # Debian's ensurepip expects its wheels in /usr, not in FOLDER, so the pip of .venv installs the packages instead.
    "$python" -m venv --clear --without-pip "$place/venv"
    # Newer Python versions print a warning about the code of this older pip.
    PYTHONWARNINGS=ignore .venv/bin/python -m pip --python "$place/venv/bin/python" install --quiet \
        --disable-pip-version-check --requirement "$lock" >&2
    checksum >"$place/installed"
}

scripts/setup.sh test >&2
for pair in "${releases[@]}"; do
    version=${pair%=*} release=${pair#*=}
    place=$folder/$version
    if ! is_ready "$place"; then
        rm -rf "$place"
        python=$(find_installed "$version")
        if [ -z "$python" ] && [ -z "$release" ]; then
            say "Python $version was not found: skipping it"
            continue
        fi
        if [ -z "$python" ]; then
            python=$place/system/usr/bin/python$version
            mkdir -p "$place"
            unpack_debian "$version" "$release" "$place/system"
        fi
        make_environment "$python" "$place"
    fi
    echo "$place/venv/bin/python"
done
