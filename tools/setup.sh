#!/usr/bin/env bash
# Creates or repairs the Python environment of this project.
#
# Usage: tools/setup.sh [--dev]
#
# Creates .venv beside run.sh (or creates or uses the environment that WHEELTAPPER_VENV names) and installs the project
# (editable) and its dependencies in the versions of tools/constraints.txt; with --dev also the packages for the tests.
# Then it uses every package once and reinstalls those that fail. Later calls return at once if pyproject.toml, the pins
# and the installed files are unchanged, and repair damaged packages. An interrupted set-up is resumed. Needs about 6 GB
# of disk. pip installs the packages and follows its usual configuration (index, find-links, constraint, certificate).
set -euo pipefail

root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
developer=()
case "$#:${1:-}" in
    0:) ;;
    1:--dev) developer=(--dev) ;;
    1:--help | 1:-h)
        sed -n '2,/^[^#]/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        exit 0
        ;;
    *)
        echo "tools/setup.sh: expected --dev or nothing, found '$*' (tools/setup.sh --help)" >&2
        exit 2
        ;;
esac
callers_path="$PATH"
# shellcheck source=tools/path.sh
. "$root/tools/path.sh"
venv="$WHEELTAPPER_VENV"

# Whether $1 is a Python that the pinned packages have wheels for, with the modules $2.
is_python() {
    PATH="$callers_path" "$1" -c "import ${2:-sys}, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))" \
        2>/dev/null
}

find_python() {
    local name
    for name in "$venv/bin/python" python3.11 python3.12 python3.13 python3.14 python3 python; do
        if is_python "$name" "ensurepip, venv"; then
            PATH="$callers_path" command -v "$name"
            return
        fi
    done
    echo "setup: expected Python 3.11 to 3.14 with venv and ensurepip on PATH, found none; install it" \
        "(Debian, Ubuntu: apt-get install python3.11-venv; macOS: brew install python@3.13) and start again" >&2
    return 1
}

# -I and -S: what is installed has no say here.
if [ -x "$venv/bin/python" ] &&
    "$venv/bin/python" -I -S "$root/tools/environment.py" "$venv" ${developer[@]+"${developer[@]}"} 2>/dev/null; then
    echo "setup: nothing to do ($venv)"
    exit 0
fi
python="$(find_python)"
exec "$python" -I "$root/tools/install.py" "$venv" ${developer[@]+"${developer[@]}"}
