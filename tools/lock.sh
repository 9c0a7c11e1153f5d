#!/usr/bin/env bash
# Pin every dependency with its hashes, for every Python from 3.11 on and every platform at once.
#   tools/lock.sh [OPTION...]     options go to `uv pip compile`, e.g. --upgrade or --upgrade-package pika
# requirements/run.txt is what the daemon and the demo need, requirements/dev.txt that and the tools of the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

uv=.venv/bin/uv
[ -x "$uv" ] || .venv/bin/python -m pip install --quiet uv

# compile_lock OUTPUT OPTION...: no header and no index address, so that the same input gives the same bytes anywhere.
compile_lock() {
    local output=$1
    shift
    "$uv" pip compile pyproject.toml requirements/build.in --extra runner --universal --python-version 3.11 \
        --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --quiet --output-file "$output" "$@"
}

compile_lock requirements/run.txt "$@"
compile_lock requirements/dev.txt --group dev --constraint requirements/run.txt "$@"
grep --count '==' requirements/run.txt requirements/dev.txt
