#!/usr/bin/env bash
# Builds guestd, the daemon inside every container: one static binary, so that it runs in any image.
# A build directory of its own, because other flags would make cargo build everything else again each time.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

cd "$root"
host=$(rustc -vV | sed -n 's/^host: //p')
CARGO_PROFILE_RELEASE_STRIP=symbols RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --release --package guestd --target "$host" --target-dir "$target/guestd-build"
built=$target/guestd-build/$host/release/guestd
if ! cmp -s "$built" "$target/guestd/guestd"; then
  mkdir -p "$target/guestd"
  cp "$built" "$target/guestd/guestd.new"
  # Renamed, not overwritten: containers that run keep the file they were started with.
  mv "$target/guestd/guestd.new" "$target/guestd/guestd"
fi
