#!/usr/bin/env bash
# Every test: the crates' own, the documentation's, and the official Python SDK against a server that it starts.
# All three are run even if one fails, so that one call tells everything; the last lines are the runners' own summaries.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/engine.sh
. "$root/scripts/engine.sh"

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

python=$("$root/scripts/venv.sh")

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

say "Tests with the official Python SDK, and of the OpenAPI document"
"$python" -m pytest tests/sdk || failed+=(SDK)

[ ${#failed[@]} -eq 0 ] || die "failed: ${failed[*]}"
