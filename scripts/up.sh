#!/usr/bin/env bash
# From a fresh checkout to a server that has done a first task: sets up, builds, starts, waits, shows. Each step looks
# first and does nothing where there is nothing to do, so that a second call only says where the server is.
# LISTEN, DATA and SCRIPTED_LISTEN come from the Makefile.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/engine.sh
. "$root/scripts/engine.sh"

task="Create a Flask API and run it"
image="atelier-workspace:latest"
listen=${LISTEN:-127.0.0.1:8080}
scripted_listen=${SCRIPTED_LISTEN:-127.0.0.1:8089}
url=http://$listen
cd "$root"
data=$(mkdir -p "${DATA:-.atelier}" && cd "${DATA:-.atelier}" && pwd)
atelier=$target/release/atelier

"$root/scripts/setup.sh"
enter_docker_group "$0" "$@"

# One `make up` at a time; what is started below must not inherit the lock.
exec 9>"$data/up.lock"
flock -n 9 || die "another 'make up' is at work on $data"

say "Building"
[ -x "$atelier" ] || note "The first build takes 5 to 15 minutes on two cores"
cargo build --release --package server --package scripted-claude
"$root/scripts/guestd.sh"
"$root/scripts/image.sh" "$image"
check_engine "$image"

tell_log() {
  printf -- '--- the end of %s\n' "$1" >&2
  tail -n 30 "$1" >&2
}

# asks URL [OPTION...]: whether anything answers there; with --fail, whether it answers that all is well.
asks() { curl --silent --noproxy '*' --max-time 5 --output /dev/null "$@"; }

# wait_for NAME URL [OPTION...]: until `asks` is content; a process that ended is not waited for.
wait_for() {
  local name=$1 deadline=$((SECONDS + 60))
  shift
  until asks "$@"; do
    runs "$data/$name.pid" "$name" || { tell_log "$data/$name.log"; die "$name ended instead of starting"; }
    [ $SECONDS -lt $deadline ] || { tell_log "$data/$name.log"; die "$name did not become healthy within a minute ($1)"; }
    sleep 0.1
  done
}

# start NAME COMMAND...: in a session of its own, so that neither Ctrl-C nor a closed terminal reaches it.
start() {
  local name=$1
  shift
  setsid "$@" >>"$data/$name.log" 2>&1 </dev/null 9>&- &
  echo $! >"$data/$name.pid"
  # Until the new program has replaced the shell, the process does not bear its name yet.
  local deadline=$((SECONDS + 5))
  until runs "$data/$name.pid" "$name" || [ $SECONDS -ge $deadline ] || ! readlink "/proc/$!/exe" >/dev/null; do sleep 0.02; done
}

# What the server was started with. It is started again when this changes, and when it is of an older build.
if [ -n "${ANTHROPIC_API_KEY:-}" ]; then
  wanted="$listen $(printf '%s' "$ANTHROPIC_API_KEY ${ANTHROPIC_BASE_URL:-}" | sha256sum | cut -c1-16)"
else
  wanted="$listen scripted $scripted_listen"
fi
# Before anything is stopped: a server that runs is better than one that does not start.
env -u ATELIER_YES "$atelier" config --data-dir "$data" --listen "$listen" >/dev/null || die "the settings are wrong, nothing was changed"
if runs "$data/atelier.pid" atelier; then
  running=$(readlink "/proc/$(cat "$data/atelier.pid")/exe")
  if [ "$(cat "$data/started-with" 2>/dev/null)" != "$wanted" ]; then
    say "Restarting the server: its settings have changed"
    stop "$data/atelier.pid" atelier
  elif [[ $running = *"(deleted)" ]]; then
    say "Restarting the server: it is of an older build"
    stop "$data/atelier.pid" atelier
  fi
fi

if [ -z "${ANTHROPIC_API_KEY:-}" ]; then
  if ! runs "$data/scripted-claude.pid" scripted-claude; then
    say "ANTHROPIC_API_KEY is not set: starting scripted-claude, which plays a model's part by a script (offline, no cost)"
    note "For real work: export ANTHROPIC_API_KEY=… and call 'make up' again"
    start scripted-claude "$target/release/scripted-claude" --listen "$scripted_listen"
    wait_for scripted-claude "http://$scripted_listen/"
  fi
  export ANTHROPIC_API_KEY=offline ANTHROPIC_BASE_URL=http://$scripted_listen
else
  stop "$data/scripted-claude.pid" scripted-claude
fi

if runs "$data/atelier.pid" atelier; then
  wait_for atelier "$url/health" --fail
  say "Atelier already runs at $url"
else
  # Somebody else's server would answer the health check as well.
  if asks "$url/"; then
    die "something else answers at $url; choose another address: make up LISTEN=127.0.0.1:8081"
  fi
  had_key=
  [ ! -e "$data/api-key" ] || had_key=1
  say "Starting the server (log: $data/atelier.log)"
  # Settings begin with ATELIER_ too, and the server rightly rejects a name it does not know.
  ATELIER_SANDBOX__GUESTD=${ATELIER_SANDBOX__GUESTD:-$target/guestd/guestd} \
    start atelier env -u ATELIER_YES "$atelier" serve --data-dir "$data" --listen "$listen"
  printf '%s' "$wanted" >"$data/started-with"
  wait_for atelier "$url/health" --fail
  say "Atelier runs at $url"
  if [ -z "$had_key" ] && [ -e "$data/api-key" ]; then note "API key (shown only now): $(cat "$data/api-key")"; fi
fi
note "The API key is in $data/api-key, the API's description at $url/docs"

if [ ! -e "$data/first-task-done" ]; then
  say "A first task: $task"
  "$atelier" run "$task" --url "$url" --api-key-file "$data/api-key" 9>&- || die "the first task did not succeed; see $data/atelier.log"
  : >"$data/first-task-done"
fi
note "Next: $atelier run \"…\"      stop with: make down"
