# shellcheck shell=bash
# Puts the Python environment of this checkout first on PATH.
#
# Source it after tools/setup.sh. WHEELTAPPER_VENV names an environment other than .venv beside run.sh.

if [ -z "${WHEELTAPPER_VENV:-}" ]; then
    WHEELTAPPER_VENV="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)/.venv"
fi
case "$WHEELTAPPER_VENV" in
    /*) ;;
    *) WHEELTAPPER_VENV="$PWD/$WHEELTAPPER_VENV" ;;
esac
export WHEELTAPPER_VENV PATH="$WHEELTAPPER_VENV/bin:$PATH"
# A PYTHONHOME or PYTHONPATH from elsewhere would mix foreign packages with the pinned ones.
unset PYTHONHOME PYTHONPATH
# Without byte code, every start compiles all imported modules, which takes many seconds.
unset PYTHONDONTWRITEBYTECODE
