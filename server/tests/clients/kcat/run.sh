#!/usr/bin/env bash
# kcat on Debian's librdkafka (2.0, from 2023): an old client that must keep working.
# Usage: run.sh BOOTSTRAP. One line per test; exits non-zero when one failed.
set -u
BROKER="${1:-${BOOTSTRAP:?usage: run.sh BOOTSTRAP}}"
RUN="kcat-$$-$RANDOM$RANDOM"
WORK="$(mktemp -d)"
trap 'rm -rf "$WORK"' EXIT
FAILED=0
k() { timeout 60 kcat -b "$BROKER" -q "$@"; }

check() { # check NAME COMMAND...: the command decides; what it printed tells why
  local name=$1 out
  shift
  if out="$("$@" 2>&1)"; then echo "ok $name"; else
    FAILED=1
    echo "FAIL $name: $(tr '\n' ' ' <<<"$out" | cut -c1-300)"
  fi
}

same() { cmp "$1" "$2"; }

lines() { seq 1 "$1" | sed 's/^/key-&:value number /' | sed 's/^key-\([0-9]*\):\(.*\)/key-\1:\2 &/'; }

codec() {
  local topic="$RUN-codec-$1"
  lines 5000 >"$WORK/in"
  k -P -t "$topic" -p 0 -K: -z "$1" -X linger.ms=100 <"$WORK/in" || return 1
  k -C -t "$topic" -p 0 -o beginning -e -K: >"$WORK/out" || return 1
  same "$WORK/in" "$WORK/out"
}

headers_and_nulls() {
  local topic="$RUN-headers"
  printf 'k:v\n' | k -P -t "$topic" -p 0 -K: -H one=1 -H two= -H one=again || return 1
  printf 'k2:\n' | k -P -t "$topic" -p 0 -K: -Z || return 1
  printf ':v3\n' | k -P -t "$topic" -p 0 -K: -Z || return 1
  k -C -t "$topic" -p 0 -o beginning -e -f '%o|%K|%k|%S|%s|%h\n' >"$WORK/out" || return 1
  printf '0|1|k|1|v|one=1,two=,one=again\n1|2|k2|-1||\n2|-1||2|v3|\n' >"$WORK/want"
  diff "$WORK/want" "$WORK/out"
}

middle() {
  local topic="$RUN-middle" from
  lines 2000 >"$WORK/in"
  k -P -t "$topic" -p 0 -K: -X linger.ms=200 <"$WORK/in" || return 1
  for from in 1 999 1000 1999; do
    tail -n "+$((from + 1))" "$WORK/in" >"$WORK/want"
    k -C -t "$topic" -p 0 -o "$from" -e -K: >"$WORK/out" && same "$WORK/want" "$WORK/out" || return 1
  done
  k -C -t "$topic" -p 0 -o -10 -e -K: >"$WORK/out" && tail -10 "$WORK/in" | same - "$WORK/out"
}

acks() {
  local topic="$RUN-acks-$1"
  lines 500 >"$WORK/in"
  k -P -t "$topic" -p 0 -K: -X "acks=$1" <"$WORK/in" || return 1
  k -C -t "$topic" -p 0 -o beginning -c 500 -K: >"$WORK/out" || return 1
  same "$WORK/in" "$WORK/out"
}

idempotent() {
  local topic="$RUN-idempotent"
  lines 500 >"$WORK/in"
  k -P -t "$topic" -p 0 -K: -X enable.idempotence=true <"$WORK/in" || return 1
  k -C -t "$topic" -p 0 -o beginning -e -K: >"$WORK/out" && same "$WORK/in" "$WORK/out"
}

metadata() {
  echo x | k -P -t "$RUN-meta" || return 1
  k -L -J >"$WORK/out" || return 1
  grep -q "\"topic\":\"$RUN-meta\"" "$WORK/out" && grep -q "\"name\":\"$BROKER\"" "$WORK/out" ||
    { head -c 300 "$WORK/out"; return 1; }
}

unknown_topic() { # a consumer does not create it, and is told
  timeout 60 kcat -b "$BROKER" -C -t "$RUN-never" -p 0 -e -X allow.auto.create.topics=false >"$WORK/out" 2>&1
  grep -q 'Unknown topic or partition' "$WORK/out" || { cat "$WORK/out"; return 1; }
  ! k -L -J | grep -q "\"topic\":\"$RUN-never\",\"partitions\":\[{"
}

by_time() {
  local topic="$RUN-time" between
  echo first | k -P -t "$topic" -p 0 || return 1
  sleep 0.05
  between="$(date +%s%3N)"
  sleep 0.05
  echo second | k -P -t "$topic" -p 0 || return 1
  k -C -t "$topic" -p 0 -o "s@$between" -e >"$WORK/out" && [ "$(cat "$WORK/out")" = second ] || return 1
  [ "$(k -Q -t "$topic:0:$between")" = "$topic [0] offset 1" ]
}

long_poll() { # the reader waits at the end, the record comes later
  local topic="$RUN-poll"
  echo first | k -P -t "$topic" -p 0 || return 1
  k -C -t "$topic" -p 0 -o end -c 1 -X fetch.wait.max.ms=20000 >"$WORK/out" &
  local reader=$!
  for _ in $(seq 40); do
    sleep 0.25
    echo late | k -P -t "$topic" -p 0
    kill -0 $reader 2>/dev/null || break
  done
  wait $reader && [ "$(cat "$WORK/out")" = late ]
}

large() { # 900 kB passes, 2 MB is refused, what comes after is unharmed
  local topic="$RUN-large"
  head -c 900000 /dev/zero | tr '\0' m >"$WORK/fits"
  head -c 2000000 /dev/zero | tr '\0' m >"$WORK/over"
  k -P -t "$topic" -p 0 -D $'\x01' <"$WORK/fits" || return 1
  timeout 60 kcat -b "$BROKER" -P -t "$topic" -p 0 -D $'\x01' -X message.max.bytes=4000000 <"$WORK/over" >"$WORK/err" 2>&1
  grep -qi 'too large' "$WORK/err" || { cat "$WORK/err"; return 1; }
  echo after | k -P -t "$topic" -p 0 || return 1
  k -C -t "$topic" -p 0 -o beginning -e -f '%S\n' >"$WORK/out" || return 1
  [ "$(tr '\n' ' ' <"$WORK/out")" = '900000 5 ' ]
}

command -v kcat >/dev/null || { echo "FAIL kcat: not installed"; exit 1; }
for c in none gzip snappy lz4 zstd; do check "codec-$c" codec "$c"; done
for a in 0 1 all; do check "acks-$a" acks "$a"; done
check headers-and-nulls headers_and_nulls
check middle-of-batch middle
check idempotent idempotent
check metadata metadata
check unknown-topic unknown_topic
check by-timestamp by_time
check long-poll long_poll
check large-and-too-large large
exit $FAILED
