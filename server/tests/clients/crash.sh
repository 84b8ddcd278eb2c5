#!/usr/bin/env bash
# The crash check (crash.py) against a jangbu binary, with what it needs installed.
# Usage: crash.sh JANGBU [OPTION OF crash.py...]. Ends with 'N passed, N failed'.
set -u
source "$(dirname "$0")/env.sh"
JANGBU="${1:?usage: crash.sh JANGBU [--kills N] [--drop-one]}"
shift
DATA="$(mktemp -d)"
trap 'rm -rf "$DATA"' EXIT
need python3 python3 && venv crash "$HERE/crash-requirements.txt" || { echo "0 passed, 1 failed"; exit 1; }
"$CLIENTS_DIR/venv-crash/bin/python" "$HERE/crash.py" "$@" -- \
  "$JANGBU" serve --data "$DATA" --listen "127.0.0.1:{port}" --http 127.0.0.1:0 2>"$CLIENTS_DIR/crash.err" | tee "$DATA/out"
code=${PIPESTATUS[0]}
bad=$(grep -c '^FAIL ' "$DATA/out")
[ "$bad" = 0 ] && [ "$code" != 0 ] && bad=1 && tail -n 5 "$CLIENTS_DIR/crash.err"
echo "$(grep -c '^ok ' "$DATA/out") passed, $bad failed"
[ "$bad" = 0 ]
