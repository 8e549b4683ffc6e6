#!/bin/sh
# Finds a Python that every pinned dependency has a wheel for, and hands over to setup.py.
# 3.11 comes first because it is the oldest that is supported and so the one that most tests ran on.
set -eu
cd "$(dirname "$0")/.."

for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
    # A pyenv shim exists and fails for versions that are not there, Debian's python3 may lack ensurepip: only a run tells.
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; then
        exec "$candidate" scripts/setup.py
    fi
done

if [ -n "${PYTHON:-}" ]; then
    echo "set-up: PYTHON=$PYTHON is not a Python 3.11, 3.12 or 3.13 with the venv module." >&2
else
    echo "set-up: no Python 3.11, 3.12 or 3.13 with the venv module found. Install one (Debian, Ubuntu: apt-get install python3-venv), or name it: make PYTHON=/path/to/python3.12" >&2
fi
exit 1
