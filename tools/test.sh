#!/usr/bin/env bash
# Runs all checks: set-up, ruff, types (mypy), shellcheck, then the tests.
#
# Usage: tools/test.sh [--all] [--coverage] [PYTEST_ARGUMENTS]
#
# --all also runs the matrices, that is, all cases of which the tests contain samples (about an hour). --coverage measures
# the coverage of system/ and submission/ and fails below 90 %. With arguments of pytest (tools/test.sh -k metrics) only
# pytest runs, in one process; otherwise all checks run and all failures are shown. Exits with status 1 if a check fails.
set -euo pipefail

CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
matrices=false
options=()
while [ $# -gt 0 ]; do
    case "$1" in
        --help | -h)
            sed -n '2,/^[^#]/s/^# \{0,1\}//p' tools/test.sh
            exit 0
            ;;
        --all) matrices=true options+=(-m "") ;;
        --coverage) options+=(--cov --cov-report=term) ;;
        *) break ;;
    esac
    shift
done
tools/setup.sh --dev
# shellcheck source=tools/path.sh
. tools/path.sh
# The arrays in the tests are small: threads cost more than they gain, and the processes share the cores.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
if [ $# -gt 0 ]; then
    exec python -m pytest ${options[@]+"${options[@]}"} "$@"
fi

failed=()
check() {
    local name="$1"
    shift
    echo "test: $name"
    "$@" || failed+=("$name")
}

scripts=()
while IFS= read -r -d '' script; do
    scripts+=("$script")
done < <(find "$PWD" \( -name .git -o -path "$WHEELTAPPER_VENV" -o -path "$PWD/exp" -o -path "$PWD/data" \) -prune \
    -o -name '*.sh' -type f -print0)

check "ruff check" ruff check .
check "ruff format" ruff format --check .
check "types" mypy --cache-dir .mypy_cache  # 20 s the first time, then a second or two: what has changed
if command -v shellcheck >/dev/null; then
    check "shellcheck" shellcheck --external-sources "${scripts[@]}" .ci/run
else
    echo "test: no shellcheck here: scripts are not checked"
fi
check "pytest" python -m pytest -n 2 ${options[@]+"${options[@]}"}
if [ "$matrices" = true ]; then check "kills" python tools/kill_matrix.py; fi
if [ ${#failed[@]} -gt 0 ]; then
    echo "test: failed: ${failed[*]}" >&2
    exit 1
fi
echo "test: all passed in $SECONDS s"
