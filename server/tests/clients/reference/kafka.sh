#!/usr/bin/env bash
# The reference broker: Apache Kafka 4.3.0, one node or one of several. Every suite is first made green against this one.
#
#   reference/kafka.sh start DIRECTORY [KEY=VALUE...]   formats, starts, prints the bootstrap address
#   reference/kafka.sh restart DIRECTORY                starts again on the same data and port
#   reference/kafka.sh stop DIRECTORY                   SIGTERM, then waits
#   reference/kafka.sh kill DIRECTORY                   SIGKILL
#
# With KAFKA_NODE=N KAFKA_QUORUM=1@HOST:PORT,... KAFKA_REPLICAS=R it is one node of several; its controller listens where
# the quorum says.
#
# DIRECTORY keeps the configuration, data, log and process id. Ports are free ones unless KAFKA_PORT is set.
set -euo pipefail
source "$(dirname "$0")/../env.sh"
kafka_jars
HEAP="${KAFKA_HEAP:-1g}"

configure() {
  local dir=$1 port controller
  shift
  mkdir -p "$dir"
  read -r port controller <<<"$(python3 "$HERE/ports.py" 2)"
  port="${KAFKA_PORT:-$port}"
  local node="${KAFKA_NODE:-1}" replicas="${KAFKA_REPLICAS:-1}" quorum="${KAFKA_QUORUM:-1@127.0.0.1:$controller}"
  controller="$(tr , '\n' <<<"$quorum" | sed -n "s/^$node@.*://p")"
  cat >"$dir/server.properties" <<P
process.roles=broker,controller
node.id=$node
controller.quorum.voters=$quorum
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$dir/data
num.partitions=1
offsets.topic.replication.factor=$replicas
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=$replicas
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
P
  printf '%s\n' "$@" >>"$dir/server.properties"
  echo "127.0.0.1:$port" >"$dir/bootstrap"
  java -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$KAFKA_JARS/*" kafka.tools.StorageTool \
    format -t MkU3OEVBNTcwNTJENDM2Qg -c "$dir/server.properties" >"$dir/format.log" 2>&1
}

run() {
  local dir=$1
  ulimit -n "$(ulimit -Hn)"
  nohup java "-Xms$HEAP" "-Xmx$HEAP" -XX:+UseG1GC -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
    -cp "$KAFKA_JARS/*" kafka.Kafka "$dir/server.properties" >>"$dir/server.log" 2>&1 </dev/null &
  echo $! >"$dir/pid"
}

await_port() {
  local address
  address="$(cat "$1/bootstrap")"
  until (exec 3<>"/dev/tcp/${address%:*}/${address#*:}") 2>/dev/null; do
    kill -0 "$(cat "$1/pid")" || { tail -20 "$1/server.log" >&2; exit 1; }
    sleep 0.1
  done
  echo "$address"
}

case "${1:-}" in
  start) shift; configure "$@"; run "$1"; await_port "$1" ;;
  restart) run "$2"; await_port "$2" ;;
  stop) kill "$(cat "$2/pid")"; while kill -0 "$(cat "$2/pid")" 2>/dev/null; do sleep 0.1; done ;;
  kill) kill -9 "$(cat "$2/pid")"; while kill -0 "$(cat "$2/pid")" 2>/dev/null; do sleep 0.02; done ;;
  *) sed -n '2,9p' "$0" >&2; exit 2 ;;
esac
