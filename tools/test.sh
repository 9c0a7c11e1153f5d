#!/usr/bin/env bash
# Everything, from nothing: packages, chroots with a real Asterisk, lint, types, imports, all tests, coverage of the core;
# those of the core twice, interpreted and compiled.
# CI=true: a skipped test is a failure. The last line printed is pytest's own summary.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$PWD/.venv/bin/python
logs=$PWD/var/test
mkdir -p "$logs"
status=0

say() { printf '\n== %s\n' "$*"; }
check() {
    say "$*"
    "$@" || status=1
}

# A chroot is made once and kept (${ARIMONITOR_LAB:-/var/tmp/arimonitor-lab}); the first time takes a minute or two.
builds=()
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
for version in 16 22; do
    fixtures/asterisk/build.sh $version >"$logs/asterisk-$version.log" 2>&1 &
    builds+=("$!:$version")
done

tools/lint.sh || status=1

# Two more than processors: the live tests of the two Asterisks keep a worker each, which mostly waits for calls to end.
options=(-n "${ARIMONITOR_TEST_WORKERS:-$(($(nproc) + 2))}" --dist loadgroup)
[ "${CI:-}" != true ] || options+=(-p tools.no_skips)

say "the compiled core: pytest ${options[*]} tests/core tests/replay"
tools/compiled.sh python -m pytest "${options[@]}" tests/core tests/replay 2>&1 | tee "$logs/compiled.log" || status=1

for build in "${builds[@]}"; do
    version=${build#*:}
    wait "${build%:*}" || {
        say "Asterisk $version could not be built, its own tests will fail:"
        tail -n 5 "$logs/asterisk-$version.log"
    }
done

export COVERAGE_FILE=$logs/coverage/data COVERAGE_RCFILE=$PWD/tools/coverage.toml
rm -rf "$logs/coverage"
mkdir -p "$logs/coverage"
say "pytest ${options[*]}"
"$python" -m coverage run -m pytest "${options[@]}" 2>&1 | tee "$logs/pytest.log" || status=1

say "coverage of arimonitor_core"
"$python" -m coverage combine --quiet "$logs/coverage"
"$python" -m coverage report || status=1

[ $status = 0 ] && say "all well" || say "FAILED: see above"
tail -n 1 "$logs/pytest.log"
exit $status
