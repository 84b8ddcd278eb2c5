#!/usr/bin/env bash
# The check of Kafka's tools (cluster_tools.py) against three nodes of a jangbu binary, or of Kafka, with what it needs installed.
# Needs root or sudo, and loop devices. Usage: cluster-tools.sh JANGBU|kafka [OPTION OF cluster_tools.py...].
# Ends with 'N passed, N failed'.
set -u
source "$(dirname "$0")/env.sh"
NODES="${1:?usage: cluster-tools.sh JANGBU|kafka [--drop-one]}"
shift
[ "$NODES" = kafka ] || NODES="$(realpath "$NODES")"
OUT="$(mktemp)"
trap 'rm -f "$OUT"' EXIT
need python3 python3 && need ip iproute2 && need nft nftables && need nsenter util-linux && need mkfs.ext4 e2fsprogs &&
  toolbox && venv crash "$HERE/crash-requirements.txt" || { echo "0 passed, 1 failed"; exit 1; }
as_root env JANGBU_CLIENTS_DIR="$CLIENTS_DIR" "$CLIENTS_DIR/venv-crash/bin/python" "$HERE/cluster_tools.py" --toolbox "${TOOLBOX[*]@Q}" \
  "$@" "$NODES" 2>"$CLIENTS_DIR/cluster-tools.err" | tee "$OUT"
code=${PIPESTATUS[0]}
bad=$(grep -c '^FAIL ' "$OUT")
[ "$bad" = 0 ] && [ "$code" != 0 ] && bad=1 && echo "FAIL cluster-tools: the rig ended with $code"
[ "$bad" = 0 ] || tail -n 20 "$CLIENTS_DIR/cluster-tools.err"
echo "$(grep -c '^ok ' "$OUT") passed, $bad failed"
[ "$bad" = 0 ]
