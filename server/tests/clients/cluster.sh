#!/usr/bin/env bash
# The cluster check (cluster.py) against a jangbu binary, with what it needs installed.
# Usage: cluster.sh JANGBU [OPTION OF cluster.py...]. Ends with 'N passed, N failed'.
set -u
source "$(dirname "$0")/env.sh"
JANGBU="${1:?usage: cluster.sh JANGBU [--rounds N] [--faults NAME,...]}"
shift
OUT="$(mktemp)"
trap 'rm -f "$OUT"' EXIT
need python3 python3 && venv crash "$HERE/crash-requirements.txt" || { echo "0 passed, 1 failed"; exit 1; }
"$CLIENTS_DIR/venv-crash/bin/python" "$HERE/cluster.py" "$@" "$JANGBU" 2>"$CLIENTS_DIR/cluster.err" | tee "$OUT"
code=${PIPESTATUS[0]}
bad=$(grep -c '^FAIL ' "$OUT")
[ "$bad" = 0 ] && [ "$code" != 0 ] && bad=1 && tail -n 5 "$CLIENTS_DIR/cluster.err"
echo "$(grep -c '^ok ' "$OUT") passed, $bad failed"
[ "$bad" = 0 ]
