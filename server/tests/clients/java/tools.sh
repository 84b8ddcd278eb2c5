#!/usr/bin/env bash
# Kafka's own command-line tools, as kafka-topics.sh and the others start them, but in one JVM (../toolbox).
# Usage: tools.sh BOOTSTRAP. One line per test.
set -u
source "$(dirname "$0")/../env.sh"
BROKER="${1:-${BOOTSTRAP:?usage: tools.sh BOOTSTRAP}}"
TOPIC="tools-$$-$RANDOM$RANDOM"
WORK="$(mktemp -d)"
trap 'rm -rf "$WORK"' EXIT
trap '' PIPE # a toolbox that has ended is an error of who asks it
FAILED=0

toolbox && mkfifo "$WORK/asked" "$WORK/answered" || { echo "FAIL tools: Kafka's tools could not be had"; exit 1; }
"${TOOLBOX[@]}" <"$WORK/asked" >"$WORK/answered" &
exec 7>"$WORK/asked" 8<"$WORK/answered"

ask() { # ask INPUT CLASS ARGUMENT...: what the tool prints and ends with; INPUT is a file or -
  local IFS=$'\t' code bytes
  echo "$*" >&7
  IFS=' ' read -r code bytes <&8 || { echo "the toolbox has ended"; return 125; }
  [ "$bytes" = 0 ] || head -c "$bytes" <&8
  return "$code"
}

tool() { ask - "$@" --bootstrap-server "$BROKER"; } # tool CLASS ARGUMENT...

sub() { # sub CLASS SUBCOMMAND ARGUMENT...: tools that want to know the broker before the subcommand
  local class=$1
  shift
  ask - "$class" --bootstrap-server "$BROKER" "$@"
}

refused() { "$@" && echo "it was not refused" && return 1; true; }

check() { # check NAME PATTERN COMMAND...: succeeds and prints PATTERN
  local name=$1 pattern=$2 out
  shift 2
  if out="$("$@")" && grep -Eq -- "$pattern" <<<"$out"; then echo "ok $name"; else
    FAILED=1
    echo "FAIL $name: $(tr '\n' ' ' <<<"$out" | cut -c1-400)"
  fi
}

topics() { tool org.apache.kafka.tools.TopicCommand "$@"; }
offsets() { tool org.apache.kafka.tools.GetOffsetShell --topic "$TOPIC" "$@"; }
configs() { tool kafka.admin.ConfigCommand "$@"; }
seq 1 100 | sed 's/.*/k&:line &/' >"$WORK/keyed"
console_produce() {
  ask "$WORK/keyed" org.apache.kafka.tools.ConsoleProducer --bootstrap-server "$BROKER" --topic "$TOPIC" \
    --reader-property parse.key=true --reader-property key.separator=: && echo done
}
console_consume() { tool org.apache.kafka.tools.consumer.ConsoleConsumer --topic "$TOPIC" --partition 0 --timeout-ms 20000 "$@"; }
perf() { tool org.apache.kafka.tools.ProducerPerformance --topic "$TOPIC" --num-records 20000 --record-size 200 \
  --throughput -1 --command-property acks=all; }

seq 1 100 | sed 's/.*/line &/' >"$WORK/want"
same_lines() { console_consume --offset earliest --max-messages 100 | grep ^line >"$WORK/got"; cmp "$WORK/want" "$WORK/got" && echo same; }

check topics-create "Created topic $TOPIC" topics --create --topic "$TOPIC" --partitions 1 --config retention.ms=3600000
check topics-create-again "already exists" refused topics --create --topic "$TOPIC"
check topics-list "^$TOPIC\$" topics --list
check topics-describe "PartitionCount: 1.*ReplicationFactor: 1.*retention.ms=3600000" topics --describe --topic "$TOPIC"
check console-producer done console_produce
check console-consumer same same_lines
check console-consumer-offset "^line 61\$" console_consume --offset 60 --max-messages 1
check offsets-latest "^$TOPIC:0:100\$" offsets --time latest
check offsets-earliest "^$TOPIC:0:0\$" offsets --time earliest
check offsets-max-timestamp "^$TOPIC:0:[0-9]+\$" offsets --time max-timestamp
check offsets-earliest-local "^$TOPIC:0:0\$" offsets --time earliest-local
check offsets-by-time "^$TOPIC:0:0\$" offsets --time 1
check configs-topic "retention.ms=3600000 .*DYNAMIC_TOPIC_CONFIG:retention.ms=3600000" \
  configs --describe --entity-type topics --entity-name "$TOPIC"
check configs-topic-all "cleanup.policy=delete .*DEFAULT_CONFIG" \
  configs --describe --all --entity-type topics --entity-name "$TOPIC"
check configs-broker-all "message.max.bytes=1048588" configs --describe --all --entity-type brokers --entity-name 1
delete_records() {
  printf '{"partitions":[{"topic":"%s","partition":0,"offset":%s}],"version":1}' "$TOPIC" "$1" >"$WORK/delete"
  tool org.apache.kafka.tools.DeleteRecordsCommand --offset-json-file "$WORK/delete"
}
check delete-records "low_watermark: 40" delete_records 40
check delete-records-moved "^$TOPIC:0:40\$" offsets --time earliest
check delete-records-beyond "OffsetOutOfRange|out of range" delete_records 101
alter() { configs --alter "$@"; }
check configs-topic-alter "^Completed updating config for topic" alter --entity-type topics --entity-name "$TOPIC" \
  --add-config max.message.bytes=20000,retention.bytes=77000000000 --delete-config retention.ms
check configs-topic-altered "max.message.bytes=20000 .*DYNAMIC_TOPIC_CONFIG:max.message.bytes=20000.*DEFAULT_CONFIG:message.max.bytes=1048588" \
  configs --describe --entity-type topics --entity-name "$TOPIC"
check configs-topic-deleted "retention.ms=604800000 .*synonyms=\{\}" configs --describe --all --entity-type topics --entity-name "$TOPIC"
check configs-topic-refused "Invalid value soon for configuration retention.ms" \
  refused alter --entity-type topics --entity-name "$TOPIC" --add-config retention.ms=soon
check configs-broker-alter "^Completed updating config for broker" alter --entity-type brokers --entity-name 1 --add-config log.retention.bytes=88000000000
check configs-default-alter "^Completed updating default config for brokers" alter --entity-type brokers --entity-default --add-config log.retention.bytes=99000000000
check configs-broker-altered "log.retention.bytes=88000000000 .*DYNAMIC_BROKER_CONFIG:log.retention.bytes=88000000000, DYNAMIC_DEFAULT_BROKER_CONFIG:log.retention.bytes=99000000000" \
  configs --describe --entity-type brokers --entity-name 1
check configs-default-altered "log.retention.bytes=99000000000 " configs --describe --entity-type brokers --entity-default
check configs-broker-refused "Cannot update these configs dynamically" \
  refused alter --entity-type brokers --entity-name 1 --add-config node.id=9
check configs-broker-delete "^Completed" alter --entity-type brokers --entity-name 1 --delete-config log.retention.bytes
check configs-default-delete "^Completed" alter --entity-type brokers --entity-default --delete-config log.retention.bytes
log_dirs() { tool org.apache.kafka.tools.LogDirsCommand --describe --topic-list "$TOPIC"; }
check log-dirs "\"partition\":\"$TOPIC-0\",\"size\":[1-9][0-9]*,\"offsetLag\":0,\"isFuture\":false" log_dirs
GROUP="group-$TOPIC"
groups() { tool org.apache.kafka.tools.consumer.group.ConsumerGroupCommand "$@"; }
group_consume() { tool org.apache.kafka.tools.consumer.ConsoleConsumer --topic "$TOPIC" --group "$GROUP" --timeout-ms 20000 "$@"; }
group_lag() { groups --describe --group "$GROUP"; }
check group-consume "^line 41\$" group_consume --from-beginning --max-messages 30
check group-list "^$GROUP\$" groups --list
check group-list-state "^$GROUP +Empty" groups --list --state Empty
check group-describe "^$GROUP +$TOPIC +0 +70 +100 +30" group_lag
check group-describe-state "^$GROUP .* Empty +0" groups --describe --group "$GROUP" --state
check group-describe-members "has no active members" groups --describe --group "$GROUP" --members
reset() { groups --reset-offsets --group "$GROUP" --topic "$TOPIC" "$@"; }
check group-reset-dry "$GROUP +$TOPIC +0 +100" reset --to-latest --dry-run
check group-reset-dry-did-nothing "^$GROUP +$TOPIC +0 +70 " group_lag
check group-reset-offset "$GROUP +$TOPIC +0 +50" reset --to-offset 50 --execute
check group-reset-did "^$GROUP +$TOPIC +0 +50 +100 +50" group_lag
check group-reset-shift "$GROUP +$TOPIC +0 +55" reset --shift-by 5 --execute
check group-reset-earliest "$GROUP +$TOPIC +0 +40" reset --to-earliest --execute
check group-reset-datetime "$GROUP +$TOPIC +0 +40" reset --to-datetime 2020-01-01T00:00:00.000 --execute
check group-reset-by-duration "$GROUP +$TOPIC +0 +40" reset --by-duration PT1H --execute
check group-reset-latest "$GROUP +$TOPIC +0 +100" reset --to-latest --execute
check group-reset-shift-back "$GROUP +$TOPIC +0 +90" reset --shift-by -10 --execute
check group-reset-current "$GROUP +$TOPIC +0 +90" reset --to-current --execute
check group-reset-beyond "$GROUP +$TOPIC +0 +100" reset --to-offset 5000 --execute
check group-reset-export "$TOPIC\"?,0,40" groups --reset-offsets --group "$GROUP" --all-topics --to-earliest --export --dry-run
echo "$TOPIC,0,40" >"$WORK/plan"
check group-reset-from-file "$GROUP +$TOPIC +0 +40" groups --reset-offsets --group "$GROUP" --from-file "$WORK/plan" --execute
check group-resumes "^line 41\$" group_consume --max-messages 1
live_consumer() { # in the background it is the process itself, so that it can be stopped
  exec timeout 60 java -Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
    -cp "$KAFKA_JARS/*" org.apache.kafka.tools.consumer.ConsoleConsumer --topic "$TOPIC" --group "$GROUP" --bootstrap-server "$BROKER"
}
live_member() { # what is told of a group while somebody is in it, and that its offsets are left alone
  live_consumer >"$WORK/live" &
  local consumer=$! tries=0
  until groups --describe --group "$GROUP" --state | grep -Eq " Stable +1$" || [ $((tries += 1)) = 100 ]; do sleep 0.2; done
  groups --describe --group "$GROUP" --state
  groups --describe --group "$GROUP" --members --verbose
  groups --describe --group "$GROUP" --offsets
  reset --to-earliest --execute
  groups --delete --group "$GROUP"
  kill "$consumer"
  wait "$consumer"
  true
}
live_member >"$WORK/told" 2>/dev/null
told() { cat "$WORK/told"; }
check group-live-state "^$GROUP +.* range +Stable +1$" told
check group-live-members "^$GROUP +console-consumer-\S+ +\S+ +console-consumer +1 .*$TOPIC" told
check group-live-offsets "^$GROUP +$TOPIC +0 +[0-9]+ +100 +[0-9]+ +console-consumer-" told
check group-live-reset-refused "can only be reset if the group '$GROUP' is inactive, but the current state is Stable" told
check group-live-delete-refused "GroupNotEmptyException" told
check group-delete-offsets "$TOPIC +0 +Successful" groups --delete-offsets --group "$GROUP" --topic "$TOPIC"
check group-delete "Deletion of requested consumer groups .* was successful" groups --delete --group "$GROUP"
check group-delete-again "GroupIdNotFound|does not exist|could not be found" groups --describe --group "$GROUP"
check producer-perf-test "^20000 records sent" perf
check producers-describe "^[0-9]+\s+0\s+-1\s+[0-9]+\s+[0-9]+\s+None" sub org.apache.kafka.tools.TransactionsCommand describe-producers --topic "$TOPIC" --partition 0
consumer_perf() { tool org.apache.kafka.tools.ConsumerPerformance --topic "$TOPIC" --num-records 10000; }
check consumer-perf-test "^[0-9]{4}-.*, [0-9.]+, [0-9.]+, [0-9]+, " consumer_perf
check topics-alter "^\$|." topics --alter --topic "$TOPIC" --partitions 3
check topics-describe-altered "PartitionCount: 3" topics --describe --topic "$TOPIC"
check topics-delete "^\$|." topics --delete --topic "$TOPIC"
quorum() { sub org.apache.kafka.tools.MetadataQuorumCommand describe "$@"; }
check metadata-quorum-status "^CurrentVoters: +\[\{\"id\": 1," quorum --status
check metadata-quorum-leader "^LeaderId: +1$" quorum --status
check metadata-quorum-lag "^MaxFollowerLag: +0$" quorum --status
check metadata-quorum-replication "^1\s+\S{22}\s+[0-9]+\s+0\s+[0-9]+\s+[0-9]+\s+Leader" quorum --replication
features() { sub org.apache.kafka.tools.FeatureCommand "$@"; }
check features-describe "^$|^Feature: " features describe
check features-upgrade-refused "Invalid update version 3 for feature nonsense" refused features upgrade --feature nonsense=3
cluster() { tool org.apache.kafka.tools.ClusterTool "$@"; }
check cluster-id "^Cluster ID: \S{22}$" cluster cluster-id
check cluster-endpoints "^1 .* broker" cluster list-endpoints
check cluster-unregister-unknown "Broker ID 99 is not currently registered" refused cluster unregister --id 99
check client-metrics-list "^$" sub org.apache.kafka.tools.ClientMetricsCommand --list
CLIENT="client-$TOPIC"
check quota-alter "^Completed updating config for client $CLIENT" alter --entity-type clients --entity-name "$CLIENT" --add-config producer_byte_rate=200000
check quota-alter-both "^Completed updating config for user $CLIENT" \
  alter --entity-type users --entity-name "$CLIENT" --entity-type clients --entity-name "$CLIENT" --add-config consumer_byte_rate=5,request_percentage=12.5
check quota-describe "^Quota configs for client-id '$CLIENT' are producer_byte_rate=200000.0$" configs --describe --entity-type clients
check quota-describe-both "^Quota configs for user-principal '$CLIENT', client-id '$CLIENT' are consumer_byte_rate=5.0, request_percentage=12.5" \
  configs --describe --entity-type users --entity-type clients
check quota-refused "Quota producer_byte_rate must be greater than 0" \
  refused alter --entity-type clients --entity-name "$CLIENT" --add-config producer_byte_rate=-5
held_back() { # 20,000 records of 200 bytes: 2 MB may come at once, the other 2 MB take ten seconds; a free producer takes one or two
  local rate
  topics --create --topic "$CLIENT" --partitions 1 >&2
  rate=$(tool org.apache.kafka.tools.ProducerPerformance --topic "$CLIENT" --num-records 20000 --record-size 200 --throughput -1 \
    --command-property client.id="$CLIENT" | tee -a "$WORK/rate" | sed -n 's/^20000 records sent, \([0-9]*\).* records.sec .*/\1/p')
  echo "$rate records a second"
  [ "$rate" -lt 3000 ]
}
check quota-holds-a-producer-back "records a second" held_back
check quota-delete "^Completed" alter --entity-type clients --entity-name "$CLIENT" --delete-config producer_byte_rate
check quota-delete-both "^Completed" \
  alter --entity-type users --entity-name "$CLIENT" --entity-type clients --entity-name "$CLIENT" --delete-config consumer_byte_rate,request_percentage
check broker-api-versions "Produce\(0\): 0 to 1[0-9]" tool org.apache.kafka.tools.BrokerApiVersionsCommand
exit $FAILED
