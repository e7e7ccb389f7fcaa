#!/usr/bin/env bash
# Installs what the tests in Python need: the official SDK, unmodified, pytest, Schemathesis, which reads the OpenAPI
# document, and Prometheus's own parser. Says where Python is.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

packages=(computer-agents==2.6.6 pytest==9.0.2 pytest-timeout==2.4.0 schemathesis==4.32.5 prometheus-client==0.26.0)
venv=$target/venv
if [ "$(cat "$venv/installed" 2>/dev/null)" != "${packages[*]}" ]; then
  say "Installing what the tests in Python need (${packages[*]})"
  rm -rf "$venv"
  python3 -m venv "$venv"
  show_progress "$target/pip.log" "$venv/bin/python" -m pip install --disable-pip-version-check "${packages[@]}" >&2 || die "pip cannot install ${packages[*]}"
  printf '%s' "${packages[*]}" >"$venv/installed"
fi
echo "$venv/bin/python"
