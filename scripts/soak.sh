#!/usr/bin/env bash
# The tests that try one thing many times, with as many tries as trust needs: one JSON line each, then a summary.
# SHARE is how much of it, in percent; single numbers can be set by their own variables. Takes about an hour as a whole.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/engine.sh
. "$root/scripts/engine.sh"

cd "$root"
"$root/scripts/setup.sh" --dev
enter_docker_group "$0" "$@"
mkdir -p "$target/soak"
log=$target/soak/log
report=$target/soak/report.jsonl

share=${SHARE:-100}
[[ $share =~ ^[0-9]+$ ]] && [ "$share" -ge 1 ] || die "SHARE is a number of percent, not $share"
tries() {
  local variable=ATELIER_TEST_$1
  export "$variable=${!variable:-$((($2 * share + 99) / 100))}"
}
tries BOUNDARIES 1000 # More than there are: each of them.
tries SCRIPTS 2000
tries KILLS 500
tries TAKEOVERS 10
tries STREAMS 10000
tries OUTAGES 20
tries ENGINES 5
tries CANCELS 1000
tries APPROVALS 60
tries PATHS 10000 # More than there are: each of them, on each route.
tries ORPHANS 1000
tries FULL_DISKS 20
tries FILES 1000000
tries AT_ONCE 100
tries ZONES 600
tries CALLS 200
export ATELIER_TEST_API_P99_MS=${ATELIER_TEST_API_P99_MS:-200}

say "Building guestd, the workspace image, the server and the tests"
image=atelier-workspace:latest
"$root/scripts/guestd.sh"
"$root/scripts/image.sh" "$image"
check_engine "$image"
export ATELIER_SANDBOX__GUESTD=${ATELIER_SANDBOX__GUESTD:-$target/guestd/guestd}
unset ATELIER_YES
# In one command and of all packages: otherwise the features of shared dependencies differ and they are built again.
what=(--workspace --bins --test runs --test it --test calendar)
cargo build --quiet "${what[@]}"
export ATELIER_BIN=${ATELIER_BIN:-$target/debug/atelier}

say "Trying ($share %); everything else that is said is in $log"
: >"$report"
export ATELIER_TEST_REPORT=$report
tail -f -n +1 "$report" &
shown=$!
trap 'kill "$shown" 2>/dev/null || true' EXIT
began=$SECONDS
status=0
# One after the other, so that the times are those of the thing tried.
cargo nextest run --profile soak "${what[@]}" --no-fail-fast --no-capture \
  -E 'binary(calendar)
      or (package(executor) and test(/^(boundaries|model_faults)::/))
      or (package(api) and test(/^files::escapes::/))
      or (package(system-tests) and test(/^(approvals|exhaustion|kills|orphans|outages|reconnects|stubborn|takeover)::/))' \
  >"$log" 2>&1 </dev/null || status=$?
"$("$root/scripts/venv.sh")" -m pytest tests/sdk/test_contract.py >>"$log" 2>&1 </dev/null || status=$?
sleep 1

tried=$(wc -l <"$report")
failed=$(grep -c '"pass":false' "$report" || true)
if [ "$status" != 0 ]; then
  grep -aE '^ +(FAIL|SIGABRT|TIMEOUT) |^FAILED ' "$log" >&2 || tail -n 40 "$log" >&2
  die "$tried tests have counted, $failed of them something wrong; others have failed before. See $log"
fi
say "$tried tests, nothing lost, doubled or stuck, in $(((SECONDS - began) / 60)) min $(((SECONDS - began) % 60)) s"
