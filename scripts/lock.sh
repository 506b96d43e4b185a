#!/usr/bin/env bash
# Writes requirements/*.txt from the extras in pyproject.toml.
# Resolves the package versions for the oldest supported Python version. These packages also have
# wheels for newer versions.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check 'pip-tools>=7.6'

for name in test demo docs web; do
    "$folder/bin/pip-compile" --quiet --upgrade --strip-extras --extra "$name" \
        --no-header --annotation-style line \
        --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
        --output-file "$folder/$name.txt" pyproject.toml
    if [ "$name" = web ]; then target=test-web; else target=$name; fi
    {
        echo "# The exact packages of \`make $target\`, for Python 3.11 and newer. Written by \`make lock\`."
        cat "$folder/$name.txt"
    } >"requirements/$name.txt"
done
