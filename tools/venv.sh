#!/usr/bin/env bash
# Make or refresh .venv from a lock file and install this checkout into it, editable.
#   tools/venv.sh run|dev      run: what the daemon and the demo need; dev: that and the tools of the tests
# PYTHON names the interpreter to use; otherwise the first one found that is new enough. Says little; on failure, why.
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:?run or dev}
lock=requirements/$kind.txt
log=.venv/install.log

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate found=""
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
        command -v "$candidate" >/dev/null || continue
        if is_new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
        found+=" $candidate ($("$candidate" --version 2>&1 || true))"
    done
    {
        echo "ARIMONITOR needs Python 3.11 or newer. Found:${found:- none}."
        echo "Install one (Debian 12, Ubuntu 24.04: apt-get install python3 python3-venv) or name it:"
        echo "    make PYTHON=/path/to/python3.12 ..."
    } >&2
    exit 1
}

# Debian's python3 comes without ensurepip unless python3-venv is installed; a pip of the machine serves as well.
make_venv() {
    local python=$1
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv --clear .venv
    elif "$python" -m pip --version >/dev/null 2>&1; then
        "$python" -m venv --clear --without-pip .venv
        "$python" -m pip --python .venv/bin/python install --quiet pip
    else
        echo "$python can make no virtual environment; install its venv package: apt-get install python3-venv" >&2
        exit 1
    fi
}

run_logged() {
    if ! "$@" >>"$log" 2>&1; then
        tail -n 25 "$log" >&2
        printf '\nInstalling the locked requirements failed; the whole log is in %s\n' "$log" >&2
        exit 1
    fi
}

if ! is_new_enough .venv/bin/python; then
    python=$(find_python)
    echo "Setting up .venv with $("$python" --version) from $lock: once, about ten seconds ..."
    make_venv "$python"
else
    echo "Refreshing .venv from $lock ..."
fi
: >"$log"
run_logged .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
run_logged .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
touch .venv/.installed-run
[ "$kind" = run ] || touch .venv/.installed-dev
