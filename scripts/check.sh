#!/usr/bin/env bash
# Everything that can be said about the code without running it. Stops at the first thing that is wrong.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

cd "$root"
"$root/scripts/setup.sh" --dev

say "Format"
cargo fmt --all --check

say "Lock file"
cargo metadata --locked --format-version 1 >/dev/null || die "Cargo.lock does not fit the manifests: run cargo check and commit it"

say "Clippy"
cargo clippy --workspace --all-targets -- --deny warnings

say "Documentation"
# With private items: who reads these pages works on this code, and a broken link in them is as wrong as any.
RUSTDOCFLAGS="--deny warnings --allow rustdoc::private-intra-doc-links" cargo doc --workspace --no-deps --document-private-items

say "Dependencies: licences, bans, sources"
cargo deny --all-features check licenses bans sources

say "Dependencies: advisories"
# The database is a git repository on a public host; without it nothing can be said, and that is no fault of the code.
if timeout 120 cargo deny fetch db >"$target/advisories.log" 2>&1; then
  cargo deny --all-features check --disable-fetch advisories
else
  warn "NOT CHECKED: the advisory database cannot be fetched ($(grep -v '^[[:space:]]*$' "$target/advisories.log" | tail -n 1 | cut -c1-200))"
fi
