#!/usr/bin/env bash
# Every test: the crates' own, the documentation's, and the official Python SDK against a server that it starts.
# All three are run even if one fails, so that one call tells everything; the last lines are the runners' own summaries.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/engine.sh
. "$root/scripts/engine.sh"

sdk=(computer-agents==2.6.6 pytest==9.0.2 pytest-timeout==2.4.0)
image=atelier-workspace:latest

cd "$root"
"$root/scripts/setup.sh" --dev
enter_docker_group "$0" "$@"

say "Building guestd and the workspace image"
"$root/scripts/guestd.sh"
"$root/scripts/image.sh" "$image"
check_engine "$image"
export ATELIER_SANDBOX__GUESTD=${ATELIER_SANDBOX__GUESTD:-$target/guestd/guestd}
unset ATELIER_YES

say "Building the server and the tests"
# In one command: built one by one, the features of shared dependencies would differ and they would be built twice.
cargo build --workspace --bins --tests
export ATELIER_BIN=${ATELIER_BIN:-$target/debug/atelier}

if [ -d tests/sdk ]; then
  venv=$target/venv
  if [ "$(cat "$venv/installed" 2>/dev/null)" != "${sdk[*]}" ]; then
    say "Installing the official Python SDK (${sdk[*]})"
    rm -rf "$venv"
    python3 -m venv "$venv"
    show_progress "$target/pip.log" "$venv/bin/python" -m pip install --disable-pip-version-check "${sdk[@]}" || die "pip cannot install ${sdk[*]}"
    printf '%s' "${sdk[*]}" >"$venv/installed"
  fi
fi

failed=()
say "Tests in the documentation"
# Each crate without such tests would print five lines to say so.
if cargo test --quiet --workspace --doc >"$target/doc-tests.log" 2>&1; then
  note "$(awk '/^test result: ok/ { passed += $4 } END { print passed + 0 " passed" }' "$target/doc-tests.log")"
else
  cat "$target/doc-tests.log"
  failed+=(documentation)
fi

# Most tests wait for a container or a database: on a small machine more of them fit than there are cores.
threads=$(nproc)
[ "$threads" -ge 4 ] || threads=4
say "Tests of the crates"
cargo nextest run --workspace --no-fail-fast --test-threads "$threads" || failed+=(crates)

if [ -d tests/sdk ]; then
  say "Tests with the official Python SDK"
  "$venv/bin/python" -m pytest tests/sdk || failed+=(SDK)
fi

[ ${#failed[@]} -eq 0 ] || die "failed: ${failed[*]}"
