# Sourced by the scripts beside it: where the project is, what it is built with, and where the result lies.
# shellcheck shell=bash
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target_dir=${CARGO_TARGET_DIR:-$root/target}
case $target_dir in /*) ;; *) target_dir=$PWD/$target_dir ;; esac
export CARGO_TARGET_DIR=$target_dir

say() { printf '%s\n' "$*" >&2; }
fail() { say "${0##*/}: $*"; exit 1; }

# The comment at the head of the calling script is its help.
usage() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"; exit "${1:-2}"; }

# The toolchain that rust-toolchain.toml pins, fetched if it can be; otherwise the installed default, said aloud.
need_cargo() {
  command -v cargo >/dev/null || fail "no cargo on the PATH: install Rust from https://rustup.rs"
  [ -z "${RUSTUP_TOOLCHAIN:-}" ] || return 0
  command -v rustup >/dev/null || return 0
  local pinned
  pinned=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' "$root/rust-toolchain.toml")
  if rustup run "$pinned" cargo --version >/dev/null 2>&1; then return 0; fi
  say "fetching Rust $pinned"
  if rustup toolchain install "$pinned" --profile minimal -c clippy -c rustfmt >&2; then return 0; fi
  RUSTUP_TOOLCHAIN=$(cd / && rustup default | cut -d' ' -f1)
  export RUSTUP_TOOLCHAIN
  say "Rust $pinned could not be fetched: going on with $RUSTUP_TOOLCHAIN"
}

# build PROFILE: builds the four programs and prints the folder they are in. With RMQ_BIN set, that folder is taken as it is.
build() {
  if [ -n "${RMQ_BIN:-}" ]; then (cd "$RMQ_BIN" && pwd); return; fi
  need_cargo
  (cd "$root" && cargo build -q --locked --profile "$1" --bins) >&2 || fail "the build failed"
  case $1 in dev) echo "$target_dir/debug" ;; *) echo "$target_dir/$1" ;; esac
}

# build_load: builds the load generator and prints its path.
build_load() {
  local load=$root/tests/bench/rmqload
  need_cargo
  (cd "$load" && CARGO_TARGET_DIR=$load/target cargo build -q --locked --release) >&2 || fail "the load generator failed to build"
  echo "$load/target/release/rmqload"
}

# now_ms: milliseconds since the epoch.
now_ms() { echo $(($(date +%s%N) / 1000000)); }
