#!/usr/bin/env bash
# Checks that the package index has wheels of all pins in tools/constraints.txt for every platform and Python version that
# the README names. Uses uv; installs nothing.
#
# Usage: tools/resolve_pins.sh
set -euo pipefail
root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
if [ $# -gt 0 ]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
fi
command -v uv >/dev/null || { echo "tools/resolve_pins.sh: expected uv on PATH (pip install uv)" >&2 && exit 1; }
failed=0
for platform in x86_64-manylinux_2_28 aarch64-manylinux_2_28 aarch64-apple-darwin; do
    for version in 3.11 3.12 3.13 3.14; do
        if found="$(cd "$root" && uv pip compile --quiet --no-header --no-annotate --only-binary :all: --extra dev \
            --python-version "$version" --python-platform "$platform" --constraint tools/constraints.txt \
            pyproject.toml)"; then
            echo "$platform, Python $version: $(grep -c '==' <<<"$found") packages"
        else
            echo "$platform, Python $version: no solution" >&2
            failed=1
        fi
    done
done
exit "$failed"
