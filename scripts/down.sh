#!/usr/bin/env bash
# Stops what `make up` started, and removes this installation's containers. Data stay: the next `make up` goes on.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/engine.sh
. "$root/scripts/engine.sh"

cd "$root"
if [ ! -d "${DATA:-.atelier}" ]; then
  say "Nothing to stop: there is no ${DATA:-.atelier}"
  exit 0
fi
data=$(cd "${DATA:-.atelier}" && pwd)
enter_docker_group "$0" "$@"

say "Stopping"
stop "$data/atelier.pid" atelier
stop "$data/scripted-claude.pid" scripted-claude

# The containers carry a label that only the server knows how to read.
atelier=$target/release/atelier
if [ ! -x "$atelier" ]; then cargo build --release --package server; fi
env -u ATELIER_YES "$atelier" down --data-dir "$data"
