#!/usr/bin/env bash
# Runs the real-client suites against a node, one after the other.
#
#   run.sh BOOTSTRAP [SUITE...]       SUITE: frames kcat librdkafka kafka-python kafka-python-old java tools franz-go
#                                            sarama kafka-go kafkajs aiokafka streams connect
#   TARGET=jangbu run.sh ...          adds what only jangbu answers (old protocol versions, stricter refusals)
#   NODE_PID=PID run.sh ...           lets the frame suite watch the node's memory
#
# What is missing is installed (Debian packages; PyPI, npm, Maven and Go modules outside the checkout, see env.sh).
# Ends with 'N passed, N failed' and is non-zero unless every test of every suite passed.
set -u
source "$(dirname "$0")/env.sh"
BROKER="${1:?usage: run.sh BOOTSTRAP [SUITE...]}"
shift
ALL=(frames kcat librdkafka kafka-python java tools franz-go sarama kafka-go kafkajs aiokafka streams connect)
[ "${TARGET:-}" = jangbu ] && ALL+=(kafka-python-old)
[ $# -gt 0 ] && ALL=("$@")
LOG="$(mktemp -d)" # of this run alone: two runs at a time must not count each other's lines
trap 'rm -rf "$LOG"' EXIT
PASSED=0
FAILED=0

if ! (exec 3<>"/dev/tcp/${BROKER%:*}/${BROKER##*:}") 2>/dev/null; then
  echo "FAIL node: nothing listens on $BROKER"
  echo "0 passed, 1 failed"
  exit 1
fi

python_suite() { # python_suite VENV REQUIREMENTS PROGRAM
  need python3 python3 && venv "$1" "$HERE/$2" && "$CLIENTS_DIR/venv-$1/bin/python" "$HERE/$3" "$BROKER"
}

suite_frames() { need python3 python3 && python3 "$HERE/frames/suite_frames.py" "$BROKER"; }
suite_kcat() { need kcat kcat && "$HERE/kcat/run.sh" "$BROKER"; }
suite_librdkafka() { python_suite librdkafka librdkafka/requirements.txt librdkafka/suite_librdkafka.py; }
suite_kafka-python() { python_suite kafka-python kafka-python/requirements.txt kafka-python/suite_kafka_python.py; }
suite_kafka-python-old() { python_suite kafka-python-old kafka-python/requirements-old.txt kafka-python/suite_old.py; }
suite_tools() { "$HERE/java/tools.sh" "$BROKER"; }
suite_java() { java_programs && java -XX:TieredStopAtLevel=1 -cp "$CLIENTS_DIR/java/classes:$CLIENTS_DIR/java/jars/*" Suite "$BROKER"; }
suite_franz-go() {
  need_go && (cd "$HERE/franz-go" && "$GO" build -o "$CLIENTS_DIR/franz-go" .) && "$CLIENTS_DIR/franz-go" "$BROKER"
}
go_suite() { # go_suite PROGRAM of the module in go/
  need_go && (cd "$HERE/go" && "$GO" build -o "$CLIENTS_DIR/go/" "./$1") && "$CLIENTS_DIR/go/$1" "$BROKER"
}
suite_sarama() { go_suite sarama; }
suite_kafka-go() { go_suite kafka-go; }
suite_aiokafka() { python_suite aiokafka aiokafka/requirements.txt aiokafka/suite_aiokafka.py; }
suite_kafkajs() {
  need_node || return 1
  local out="$CLIENTS_DIR/kafkajs"
  if ! cmp -s "$HERE/kafkajs/package-lock.json" "$out/package-lock.json"; then
    rm -rf "$out"
    mkdir -p "$out/install" && cp "$HERE"/kafkajs/package*.json "$out/install/" &&
      (cd "$out/install" && npm ci --silent --no-audit --no-fund >&2) && mv "$out"/install/* "$out/" || return 1
  fi
  cp "$HERE/kafkajs/suite.mjs" "$out/" && node "$out/suite.mjs" "$BROKER"
}
suite_streams() {
  jars streams || return 1
  local out="$CLIENTS_DIR/streams"
  javac -cp "$out/jars/*" -d "$out/classes" "$HERE"/streams/src/*.java &&
    java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=error \
      -cp "$out/classes:$out/jars/*" Streams "$BROKER"
}
suite_connect() { jars connect && python3 "$HERE/connect/suite_connect.py" "$CLIENTS_DIR/connect/jars" "$BROKER"; }

for suite in "${ALL[@]}"; do
  start=$SECONDS
  echo "== $suite"
  "suite_$suite" 2>"$LOG/$suite.err" | tee "$LOG/$suite.out"
  code=${PIPESTATUS[0]}
  ok=$(grep -c '^ok ' "$LOG/$suite.out")
  bad=$(grep -c '^FAIL ' "$LOG/$suite.out")
  if [ "$bad" = 0 ] && { [ "$code" != 0 ] || [ "$ok" = 0 ]; }; then
    bad=1
    echo "FAIL $suite: ended with $code after $ok tests: $(tail -n 3 "$LOG/$suite.err" | tr '\n' ' ')"
  fi
  PASSED=$((PASSED + ok))
  FAILED=$((FAILED + bad))
  echo "== $suite: $ok passed, $bad failed, $((SECONDS - start)) s"
done
echo "$PASSED passed, $FAILED failed"
[ "$FAILED" = 0 ]
