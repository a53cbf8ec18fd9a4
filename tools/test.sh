#!/usr/bin/env bash
# Checks everything: set-up, ruff, shellcheck, then the tests.
#
# Usage: tools/test.sh [PYTEST_ARGUMENTS]
#
# With arguments (tools/test.sh -k metrics) only pytest runs, in one process; without, all checks run and every one
# that fails is shown. Exits 1 if any failed.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ "${1:-}" = --help ]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' tools/test.sh
    exit 0
fi
tools/setup.sh --dev
# shellcheck source=tools/path.sh
. tools/path.sh
# The tests' arrays are small: threads cost more than they bring, and the processes share the cores.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
if [ $# -gt 0 ]; then
    exec python -m pytest "$@"
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
check "shellcheck" shellcheck --external-sources "${scripts[@]}" .ci/run
# A file stays with one process: what its tests share is made once.
check "pytest" python -m pytest -n 2 --dist loadfile
if [ ${#failed[@]} -gt 0 ]; then
    echo "test: failed: ${failed[*]}" >&2
    exit 1
fi
echo "test: all passed in $SECONDS s"
