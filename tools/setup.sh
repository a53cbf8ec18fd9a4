#!/usr/bin/env bash
# Makes the Python environment that everything else here runs in, once.
#
# Usage: tools/setup.sh
#
# Makes .venv beside run.sh, or makes or reuses the environment that WHEELTAPPER_VENV names, and installs the project
# (editable), its dependencies and the developer's tools, all at the versions of tools/constraints.txt. While
# pyproject.toml and the constraints stay as they are, later calls answer at once. An interrupted set-up is repeated.
# Takes about 6 GB of disk. pip's configuration (index, find-links, certificate, ...) is respected.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
elif [ $# -gt 0 ]; then
    echo "tools/setup.sh: expected no arguments, found '$*' (tools/setup.sh --help)" >&2
    exit 2
fi
callers_path="$PATH"
# shellcheck source=tools/path.sh
. "$root/tools/path.sh"
venv="$WHEELTAPPER_VENV"
python="$venv/bin/python"
stamp="$venv/.wheeltapper-setup"
started="$venv/.wheeltapper-setup-started"

say() { echo "setup: $*"; }
die() {
    echo "setup: $*" >&2
    exit 1
}

# What the environment depends on; the folders too, because an editable install points at the checkout and scripts
# name their interpreter.
state() {
    { printf '%s\n' "$root" "$venv" && cat "$root/pyproject.toml" "$root/tools/constraints.txt"; } |
        if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi
}

is_complete() { [ -f "$stamp" ] && [ -x "$python" ] && [ "$(cat "$stamp")" = "$(state)" ]; }

find_python() {
    local name
    for name in python3.11 python3.12 python3.13 python3.14 python3 python; do
        if PATH="$callers_path" "$name" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
            2>/dev/null; then
            PATH="$callers_path" command -v "$name"
            return
        fi
    done
    die "expected Python 3.11 or newer with venv and ensurepip on PATH, found none;" \
        "install it (Debian, Ubuntu: apt-get install python3.11-venv) and start again"
}

make_environment() {
    local base clear=()
    if "$python" -m pip --version >/dev/null 2>&1 && ! is_moved; then
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
            die "$venv: expected an environment of Python 3.11 or newer, found $("$python" --version)"
        say "using the environment in $venv"
        return
    fi
    if [ -n "$(ls -A "$venv")" ] && [ ! -f "$venv/pyvenv.cfg" ]; then
        die "$venv: expected a Python environment or an empty folder, found other files"
    fi
    base="$(find_python)"
    say "making an environment in $venv ($("$base" --version 2>&1))"
    # What may hold somebody's own packages is mended in place, never emptied.
    if [ "$venv" = "$root/.venv" ]; then clear=(--clear); fi
    if ! { "$base" -m venv ${clear[@]+"${clear[@]}"} "$venv" && "$python" -m pip --version >/dev/null; }; then
        die "$venv: making the environment failed, see above; remove the folder and start again"
    fi
}

# The scripts of an environment that was moved or copied along with the checkout still name the old folder.
is_moved() { [ "$venv" = "$root/.venv" ] && ! grep -qF "$venv" "$venv/bin/activate"; }

# uv takes pip's settings from variables of its own: prints the shell code that sets those that are not set already.
pip_settings_for_uv() {
    "$python" - "$("$python" -m pip config list)" <<'PYTHON'
import ast, os, shlex, sys

settings = {}
for section in ("global.", "install.", ":env:."):  # later ones win, as in pip
    for line in sys.argv[1].splitlines():
        name, _, value = line.partition("=")
        if name.startswith(section):
            settings[name.removeprefix(section)] = ast.literal_eval(value).split()
for key, variable, separator in (
    ("index-url", "UV_DEFAULT_INDEX", ""),
    ("extra-index-url", "UV_INDEX", " "),
    ("find-links", "UV_FIND_LINKS", ","),
    ("trusted-host", "UV_INSECURE_HOST", " "),
    ("no-index", "UV_NO_INDEX", ""),
    ("timeout", "UV_HTTP_TIMEOUT", ""),
    ("default-timeout", "UV_HTTP_TIMEOUT", ""),
    ("cert", "SSL_CERT_FILE", " "),
    ("proxy", "ALL_PROXY", ""),
):
    if settings.get(key) and variable not in os.environ:
        print(f"export {variable}={shlex.quote(separator.join(settings[key]))}")
PYTHON
}

install_with_uv() {
    local settings
    "$python" -m pip install -qq --disable-pip-version-check --constraint tools/constraints.txt uv || return
    settings="$(pip_settings_for_uv)" || return
    (
        eval "$settings"
        # As pip does, take the best version of all indexes, not the first index that knows the name.
        export UV_INDEX_STRATEGY="${UV_INDEX_STRATEGY:-unsafe-best-match}"
        "$python" -m uv pip install --python "$python" "$@" \
            --constraint tools/constraints.txt --build-constraint tools/constraints.txt --editable '.[dev]'
    )
}

install_with_pip() {
    "$python" -m pip install --disable-pip-version-check "$@" --constraint tools/constraints.txt --editable '.[dev]'
}

install() {
    local uv_options=() pip_options=()
    if [ ! -t 2 ]; then
        uv_options+=(--quiet)
        pip_options+=(-qq)
    fi
    # A killed installer may leave a package without some of its files, which would pass for installed.
    if [ -f "$started" ]; then
        say "an earlier set-up did not finish: installing afresh"
        uv_options+=(--reinstall)
        pip_options+=(--force-reinstall)
    fi
    touch "$started"
    say "installing the project and $(grep -c '==' tools/constraints.txt) pinned packages (a few GB; minutes)"
    if ! install_with_uv ${uv_options[@]+"${uv_options[@]}"}; then
        say "uv could not do it, going on with pip (slower)"
        install_with_pip ${pip_options[@]+"${pip_options[@]}"} ||
            die "the installation failed, see above; start again after mending it"
    fi
}

if is_complete; then
    say "nothing to do ($venv)"
    exit 0
fi
SECONDS=0
# Fails here, before the wait for others, where there is no interpreter to work with.
[ -x "$python" ] || find_python >/dev/null
mkdir -p "$venv"
if command -v flock >/dev/null; then
    # The lock is on the folder itself: two calls never install into one environment at once.
    exec 9<"$venv"
    flock --nonblock 9 || {
        say "waiting for another set-up of $venv"
        flock 9
    }
    if is_complete; then
        say "nothing to do ($venv), the other set-up has finished"
        exit 0
    fi
fi
rm -f "$stamp"
make_environment
cd "$root"
install
state >"$stamp.tmp"
mv "$stamp.tmp" "$stamp"
rm -f "$started"
say "done in $SECONDS s"
