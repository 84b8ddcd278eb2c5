#!/usr/bin/env bash
# The power cuts (powercut.py) against a jangbu binary, with what they need installed. Needs root or sudo, and loop devices.
# Usage: powercut.sh JANGBU [OPTION OF powercut.py...]. Ends with 'N passed, N failed'.
set -u
source "$(dirname "$0")/env.sh"
JANGBU="$(realpath "${1:?usage: powercut.sh JANGBU [--compacted] [--cuts N] [--minutes M] [--drop-one]}")"
shift
OUT="$(mktemp)"
trap 'rm -f "$OUT"' EXIT
need mkfs.ext4 e2fsprogs && need mount mount && need python3 python3 && venv crash "$HERE/crash-requirements.txt" ||
  { echo "0 passed, 1 failed"; exit 1; }
as_root "$CLIENTS_DIR/venv-crash/bin/python" "$HERE/powercut.py" "$@" -- \
  "$JANGBU" serve --data '{data}' --listen '127.0.0.1:{port}' --advertise '127.0.0.1:{wire}' \
  --http '127.0.0.1:{http}' --log-filter warn 2>"$CLIENTS_DIR/powercut.err" | tee "$OUT"
code=${PIPESTATUS[0]}
bad=$(grep -c '^FAIL ' "$OUT")
[ "$bad" = 0 ] && [ "$code" != 0 ] && bad=1 && echo "FAIL power-cuts: the rig ended with $code"
[ "$bad" = 0 ] || tail -n 20 "$CLIENTS_DIR/powercut.err"
echo "$(grep -c '^ok ' "$OUT") passed, $bad failed"
[ "$bad" = 0 ]
