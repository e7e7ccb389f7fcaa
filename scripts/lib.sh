# Shared by the scripts beside it: where the checkout is, how we speak, and how long work is shown.
# Sourced, never run. Everything said goes to stderr, so that a script's stdout stays its answer.
# shellcheck shell=bash disable=SC2034

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

# Asks for sudo's password once and before anything is half done. Usage: want_root "to install packages"
want_root() {
  [ "$(id -u)" != 0 ] || return 0
  command -v sudo >/dev/null || die "root is needed $1, and there is no sudo: run this as root"
  sudo -v || die "root is needed $1"
}

# Asks where a person sits at the terminal, and goes on where none does. Usage: confirm "Install this now?" || die …
confirm() {
  local answer
  [ -t 0 ] && [ -z "${ATELIER_YES:-}" ] || return 0
  read -r -p "$1 [Y/n] " answer || return 1
  case $answer in '' | [Yy]*) return 0 ;; *) return 1 ;; esac
}

# runs PIDFILE NAME: whether the process in PIDFILE lives and really is NAME; pids are given to others after a crash.
runs() {
  local pid exe
  pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] && exe=$(readlink "/proc/$pid/exe" 2>/dev/null) || return 1
  exe=${exe% (deleted)}
  [ "${exe##*/}" = "$2" ]
}

# stop PIDFILE NAME: asks the process to end, and insists after 40 seconds.
stop() {
  local pid deadline=$((SECONDS + 40))
  if runs "$1" "$2"; then
    pid=$(cat "$1")
    kill "$pid" 2>/dev/null || true
    while runs "$1" "$2"; do
      if [ $SECONDS -ge $deadline ]; then
        warn "$2 (process $pid) did not end by itself; killing it"
        kill -9 "$pid" 2>/dev/null || true
        deadline=$((SECONDS + 10))
      fi
      sleep 0.1
    done
    note "$2 stopped"
  fi
  rm -f "$1"
}

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
    line=$(tail -c 400 "$log" | tr '\r' '\n' | grep -av '^[[:space:]]*$' | tail -n 1 | tr -cd '[:print:]') || line=
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
