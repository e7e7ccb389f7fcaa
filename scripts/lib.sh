# Shared by the scripts beside it: where the checkout is, how we speak, and how long work is shown.
# Sourced, never run. Everything said goes to stderr, so that a script's stdout stays its answer.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
case $target in /*) ;; *) target=$root/$target ;; esac

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
note() { printf '    %s\n' "$*" >&2; }
warn() { printf '\033[1mwarning:\033[0m %s\n' "$*" >&2; }
die() { printf '\033[1merror:\033[0m %s\n' "$*" >&2; exit 1; }
# Without a terminal nobody can see bold, and a log is easier to search without it.
if [ ! -t 2 ]; then
  say() { printf '==> %s\n' "$*" >&2; }
  warn() { printf 'warning: %s\n' "$*" >&2; }
  die() { printf 'error: %s\n' "$*" >&2; exit 1; }
fi

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# show_progress LOG COMMAND...: runs a chatty command with its output in LOG. A terminal sees one line that changes,
# a pipe sees a sign of life every ten seconds; the end of LOG is shown only when the command fails.
show_progress() {
  local log=$1 began=$SECONDS shown=0 line status width
  shift
  : >"$log"
  "$@" >>"$log" 2>&1 </dev/null &
  local child=$!
  # The subshell that runs it must not outlive an interrupted script.
  trap 'kill "$child" 2>/dev/null; exit 130' INT TERM
  while kill -0 "$child" 2>/dev/null; do
    line=$(tail -c 400 "$log" | tr '\r' '\n' | grep -v '^[[:space:]]*$' | tail -n 1 | tr -cd '[:print:]') || line=
    if [ -t 2 ]; then
      width=$(($(tput cols 2>/dev/null || echo 80) - 12))
      printf '\r\033[K    %3d s  %.*s' "$((SECONDS - began))" "$width" "$line" >&2
      sleep 0.3
    else
      if [ $((SECONDS - began)) -ge $((shown + 10)) ]; then
        shown=$((SECONDS - began))
        printf '    %3d s  %.100s\n' "$shown" "$line" >&2
      fi
      sleep 0.2
    fi
  done
  status=0
  wait "$child" || status=$?
  trap - INT TERM
  [ ! -t 2 ] || printf '\r\033[K' >&2
  if [ "$status" != 0 ]; then
    tail -n 40 "$log" >&2
    note "The whole output is in $log"
  fi
  return "$status"
}
