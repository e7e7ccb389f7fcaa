#!/usr/bin/env bash
# The figures, each beside a baseline of the same call, as a table and as JSON. A release build, and nothing else at work.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/engine.sh
. "$root/scripts/engine.sh"

cd "$root"
"$root/scripts/setup.sh"
enter_docker_group "$0" "$@"
cargo build --release --package server --package scripted-claude --package bench
"$root/scripts/guestd.sh"
"$root/scripts/image.sh"
check_engine atelier-workspace:latest
ATELIER_SANDBOX__GUESTD=${ATELIER_SANDBOX__GUESTD:-$target/guestd/guestd} ATELIER_BIN=$target/release/atelier \
  exec env -u ATELIER_YES "$target/release/atelier-bench" "$@"
