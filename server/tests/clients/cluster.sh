#!/usr/bin/env bash
# The cluster check (cluster.py) against a jangbu binary, with what it needs installed. Needs root or sudo, and loop devices.
# Usage: cluster.sh JANGBU [OPTION OF cluster.py...]. Ends with 'N passed, N failed'.
set -u
source "$(dirname "$0")/env.sh"
JANGBU="$(realpath "${1:?usage: cluster.sh JANGBU [--rounds N] [--faults NAME,...]}")"
shift
OUT="$(mktemp)"
trap 'rm -f "$OUT"' EXIT
need python3 python3 && need ip iproute2 && need nft nftables && need nsenter util-linux && need mkfs.ext4 e2fsprogs &&
  venv crash "$HERE/crash-requirements.txt" || { echo "0 passed, 1 failed"; exit 1; }
as_root "$CLIENTS_DIR/venv-crash/bin/python" "$HERE/cluster.py" "$@" "$JANGBU" 2>"$CLIENTS_DIR/cluster.err" | tee "$OUT"
code=${PIPESTATUS[0]}
bad=$(grep -c '^FAIL ' "$OUT")
[ "$bad" = 0 ] && [ "$code" != 0 ] && bad=1 && echo "FAIL cluster: the rig ended with $code"
[ "$bad" = 0 ] || tail -n 20 "$CLIENTS_DIR/cluster.err"
echo "$(grep -c '^ok ' "$OUT") passed, $bad failed"
[ "$bad" = 0 ]
