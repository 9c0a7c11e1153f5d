#!/usr/bin/env bash
# Run a command of .venv with the compiled core in place of the interpreted one:
#   tools/compiled.sh python -m pytest benchmarks
# It is made in var/compiled first; every other file is a copy of this checkout's. Needs a C compiler and Python.h.
set -euo pipefail
cd "$(dirname "$0")/.."

made=$PWD/var/compiled
mkdir -p "$made"
rm -rf "$made/lib"
if ! ARIMONITOR_COMPILE=1 .venv/bin/python setup.py -q build \
    --build-base "$made/build" --build-lib "$made/lib" >"$made/build.log" 2>&1; then
    tail -n 20 "$made/build.log" >&2
    echo "The core could not be compiled (needs: apt-get install gcc libc6-dev python3-dev); the log: $made/build.log" >&2
    exit 1
fi

# Before everything else, and in every process that is started below: no script's own folder and no working directory.
export ARIMONITOR_CORE=compiled
export PYTHONPATH=$made/lib:$PWD PYTHONSAFEPATH=1 PYTEST_ADDOPTS="--import-mode=append ${PYTEST_ADDOPTS:-}"
PATH=$PWD/.venv/bin:$PATH exec "$@"
