#!/usr/bin/env bash
# A compacted topic under real clients and kill -9 (compaction.py), with what it needs installed.
# Usage: compaction.sh JANGBU [--kills N] [--drop-one]. Ends with 'N passed, N failed'.
set -u
source "$(dirname "$0")/env.sh"
JANGBU="${1:?usage: compaction.sh JANGBU [--kills N] [--drop-one]}"
shift
DATA="$(mktemp -d)"
trap 'rm -rf "$DATA"' EXIT
need python3 python3 && venv crash "$HERE/crash-requirements.txt" && java_programs && need_go &&
  (cd "$HERE/franz-go" && "$GO" build -o "$CLIENTS_DIR/franz-go-reader" ./reader) || { echo "0 passed, 1 failed"; exit 1; }
export JAVA_READER="java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp $CLIENTS_DIR/java/classes:$CLIENTS_DIR/java/jars/* ReadFrom"
export GO_READER="$CLIENTS_DIR/franz-go-reader"
"$CLIENTS_DIR/venv-crash/bin/python" "$HERE/compaction.py" "$@" "$JANGBU" "$DATA/node" 2>"$CLIENTS_DIR/compaction.err" | tee "$DATA/out"
code=${PIPESTATUS[0]}
bad=$(grep -c '^FAIL ' "$DATA/out")
[ "$bad" = 0 ] && [ "$code" != 0 ] && bad=1 && tail -n 5 "$CLIENTS_DIR/compaction.err"
echo "$(grep -c '^ok ' "$DATA/out") passed, $bad failed"
[ "$bad" = 0 ]
