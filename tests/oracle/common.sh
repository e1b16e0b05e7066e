# Sourced by the scripts beside it: where the installation is, and how its programs are started.
oracle_dir=${RMQ_ORACLE:-$HOME/.cache/rmq-oracle}
run_dir=$oracle_dir/run
export NAMESRV_ADDR=${NAMESRV_ADDR:-127.0.0.1:9876}
export ROCKETMQ_HOME=$oracle_dir/home

fail() { echo "${0##*/}: $*" >&2; exit 1; }

# What RocketMQ reaches into on JDK 17, one collector thread; and the first compiler only, so that seven JVMs start fast on two
# cores. RMQ_ORACLE_JIT=full is for figures of speed (warm it up for 90 s); RMQ_ORACLE_HEAP is the brokers' heap.
java_flags=(-XX:+UseSerialGC -XX:MaxDirectMemorySize=1g
  --add-opens=java.base/java.nio=ALL-UNNAMED --add-exports=java.base/sun.nio.ch=ALL-UNNAMED
  --add-opens=java.base/sun.nio.ch=ALL-UNNAMED --add-opens=java.base/java.lang=ALL-UNNAMED
  --add-opens=java.base/java.util=ALL-UNNAMED)
[ "${RMQ_ORACLE_JIT:-}" = full ] || java_flags+=(-XX:TieredStopAtLevel=1)
class_path="$oracle_dir/lib/*"

need_installation() {
  command -v java >/dev/null || fail "no java on the PATH (JDK 17 or newer is needed)"
  compgen -G "$oracle_dir/lib/rocketmq-broker-*.jar" >/dev/null ||
    fail "nothing installed in $oracle_dir: run ${BASH_SOURCE[0]%/*}/install first, or set RMQ_ORACLE"
}

# start_of PID: when it was started, in clock ticks since boot; nothing when it is gone, or ended and was not waited for.
start_of() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  read -ra stat <<<"${stat##*) }"
  [ "${stat[0]}" = Z ] || echo "${stat[19]}"
}

# alive PID START: whether PID is still the process that was started at START, not another one with its number.
alive() { [ -n "$2" ] && [ "$(start_of "$1")" = "$2" ]; }
