# Sourced by scripts/failover and scripts/soak, after scripts/project.sh: builds the client programs.
# shellcheck shell=bash disable=SC2154 # root: project.sh
need_python() {
  command -v python3 >/dev/null || fail "no python3 on the PATH"
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Python 3.11 or newer is needed"
}

# cannot_run KIND: fails, and prints why, when this machine lacks what clients of that kind need.
cannot_run() {
  local needed tools=()
  case $1 in java) tools=(java mvn) ;; go) tools=(go) ;; esac
  for needed in "${tools[@]}"; do
    if ! command -v "$needed" >/dev/null; then echo "no $needed on the PATH"; return 1; fi
  done
}

# able KINDS: those of them, by comma, that can run here; says who is skipped, and why.
able() {
  local kind why kinds=()
  for kind in ${1//,/ }; do
    if why=$(cannot_run "$kind"); then kinds+=("$kind"); else say "${0##*/}: $kind clients are skipped: $why"; fi
  done
  [ ${#kinds[@]} -gt 0 ] || fail "no clients can run here"
  (IFS=,; echo "${kinds[*]}")
}

# build_clients KIND: what is not up to date. Kinds without a program of their own need nothing.
build_clients() {
  local java=$root/tests/failover/java go=$root/tests/failover/go
  local jar=$java/target/failover.jar
  case $1 in
    java)
      if [ -z "$(find "$jar" -newer "$java/pom.xml" -newer "$java/src/main/java/failover/Clients.java" 2>/dev/null)" ]; then
        say "${0##*/}: builds the Java clients"
        mvn -q -B -Dstyle.color=never -f "$java/pom.xml" package >&2 || fail "the Java clients could not be built; what Maven said is above"
      fi
      ;;
    go)
      mkdir -p "$go/target"
      (cd "$go" && CGO_ENABLED=0 go build -trimpath -o target/clients .) || fail "the Go clients could not be built; what Go said is above"
      ;;
  esac
}
