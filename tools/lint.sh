#!/usr/bin/env bash
# Style, types, and who may import whom. Runs all of it even if one part fails.
set -uo pipefail
cd "$(dirname "$0")/.."

bin=.venv/bin
status=0
check() {
    printf '\n== %s\n' "$*"
    "$@" || status=1
}

check $bin/ruff check .
check $bin/ruff format --check .
check $bin/mypy --strict arimonitor_core arimonitor_runner
check $bin/lint-imports
exit $status
