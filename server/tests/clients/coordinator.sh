#!/usr/bin/env bash
# The groups check (coordinator.py) against a jangbu binary, with what it needs installed.
# Usage: coordinator.sh JANGBU [KILLS [classic|consumer]], the group protocol. Ends with 'N passed, N failed'.
set -u
source "$(dirname "$0")/env.sh"
JANGBU="$(realpath "${1:?usage: coordinator.sh JANGBU [KILLS]}")"
shift
OUT="$(mktemp)"
trap 'rm -f "$OUT"' EXIT
need python3 python3 && venv crash "$HERE/crash-requirements.txt" || { echo "0 passed, 1 failed"; exit 1; }
"$CLIENTS_DIR/venv-crash/bin/python" "$HERE/coordinator.py" "$JANGBU" "$@" 2>"$CLIENTS_DIR/coordinator.err" | tee "$OUT"
code=${PIPESTATUS[0]}
bad=$(grep -c '^FAIL ' "$OUT")
[ "$bad" = 0 ] && [ "$code" != 0 ] && bad=1 && echo "FAIL groups: the check ended with $code"
[ "$bad" = 0 ] || tail -n 20 "$CLIENTS_DIR/coordinator.err"
echo "$(grep -c '^ok ' "$OUT") passed, $bad failed"
[ "$bad" = 0 ]
