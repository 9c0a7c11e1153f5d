#!/usr/bin/env bash
# See that the system packages of tools/test-packages.txt are there: as root install them, otherwise say what to run.
set -euo pipefail
cd "$(dirname "$0")/.."

python=.venv/bin/python
[ -x $python ] || python=${PYTHON:-python3}

is_there() {
    case $1 in
        /*) [ -e "$1" ] ;;
        Python.h) [ -e "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ;;
        ensurepip) [ -x .venv/bin/python ] || python3 -c 'import ensurepip' 2>/dev/null ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

missing=()
while read -r package proof; do
    is_there "$proof" || missing+=("$package")
done < <(grep -v '^#' tools/test-packages.txt)

if [ "$(id -u)" != 0 ]; then
    # A chroot with a real Asterisk can be entered by root only, so one command covers the packages as well.
    echo "The whole test suite runs a real Asterisk in a chroot and needs root${missing[0]:+ (and the packages ${missing[*]})}. Run:" >&2
    echo "    sudo make test" >&2
    echo "Without root: make lint, make unit" >&2
    exit 1
fi
[ ${#missing[@]} -gt 0 ] || exit 0

echo "Installing ${missing[*]} ..."
# Debian starts what it installs; the tests bring their own nodes, so nothing may be left running or enabled.
policy=${POLICY_RC_D:-/usr/sbin/policy-rc.d}
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
mkdir -p var/test
log=var/test/packages.log
if ! { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "apt-get failed; the whole log is in $log" >&2
    exit 1
fi
# What was there before stays as it was.
for pair in rabbitmq-server:rabbitmq-server openssh-server:ssh pure-ftpd:pure-ftpd; do
    if [[ " ${missing[*]} " == *" ${pair%:*} "* ]] && [ -d /run/systemd/system ]; then
        systemctl disable --quiet "${pair#*:}" || true
    fi
done
