#!/usr/bin/env bash
# Brings a Debian or Ubuntu machine to where Atelier can be built and run: says what is missing, asks, installs it, and
# starts a Docker engine where none runs. Where nothing is missing it does nothing.
# Usage: setup.sh [--dev]     --dev adds what `make check` and `make test` need. ATELIER_YES=1 answers yes.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/engine.sh
. "$root/scripts/engine.sh"

# Known to read this tree's deny.toml and .config/nextest.toml.
deny_version=0.20.2
nextest_version=0.9.143

enter_docker_group "$0" "$@"

dev=
[ "${1:-}" != --dev ] || dev=1
export PATH=$PATH:/usr/sbin:/sbin:$HOME/.cargo/bin

command -v cargo >/dev/null || die "there is no Rust toolchain: install one from https://rustup.rs and run this again"

packages=() # of the distribution
reasons=()  # what they are for, in the same order of finding
crates=()
need() { reasons+=("$1"); shift; packages+=("$@"); }

# A private Postgres is started from the distribution's binaries, unless the operator names a database.
has_postgres() { compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || command -v postgres >/dev/null; }
if [ -z "${ATELIER_DATABASE__URL:-}" ] || [ -n "$dev" ]; then
  has_postgres || need "Postgres, for the server's data" postgresql
fi
if ! engine_answers && { [ -z "${DOCKER_HOST:-}" ] || ! command -v docker >/dev/null; }; then
  command -v dockerd >/dev/null || need "a Docker engine, for the agents' computers" docker.io
  command -v docker >/dev/null || [[ " ${packages[*]} " = *" docker.io "* ]] || need "Docker's command line" docker.io
  command -v iptables >/dev/null || need "iptables, for the containers' networks" iptables
fi
command -v cc >/dev/null || need "a C compiler and linker, to build" gcc libc6-dev
command -v pkg-config >/dev/null || need "pkg-config, to build" pkg-config
command -v make >/dev/null || need "make" make
command -v curl >/dev/null || need "curl, to ask the server for its health" curl
[ -e /etc/ssl/certs/ca-certificates.crt ] || need "CA certificates" ca-certificates
command -v mmdebstrap >/dev/null || command -v debootstrap >/dev/null \
  || need "mmdebstrap, to make an image without a registry" mmdebstrap
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || need "Debian's keys, to check that image's packages" debian-archive-keyring
if [ -n "$dev" ]; then
  python3 -c 'import venv, ensurepip' 2>/dev/null || need "Python with venv, to test with the official SDK" python3 python3-venv
  cargo deny --version >/dev/null 2>&1 || crates+=("cargo-deny@$deny_version")
  cargo nextest --version >/dev/null 2>&1 || crates+=("cargo-nextest@$nextest_version")
fi
components=()
if [ -n "$dev" ]; then
  cargo fmt --version >/dev/null 2>&1 || components+=(rustfmt)
  cargo clippy --version >/dev/null 2>&1 || components+=(clippy)
fi

if [ ${#packages[@]} -gt 0 ] || [ ${#crates[@]} -gt 0 ] || [ ${#components[@]} -gt 0 ]; then
  say "This machine lacks:"
  for reason in "${reasons[@]}"; do note "$reason"; done
  [ ${#packages[@]} -eq 0 ] || note "(packages: ${packages[*]})"
  for crate in "${crates[@]}"; do note "$crate, built by cargo install"; done
  [ ${#components[@]} -eq 0 ] || note "Rust components: ${components[*]}"
  confirm "Install this now?" || die "nothing was installed"
fi

install_packages() {
  command -v apt-get >/dev/null || die "this is no Debian or Ubuntu: please install the above by your system's own means"
  want_root "to install ${packages[*]}"
  # Only the binaries are wanted: the distribution's own cluster would be one more server that nobody asked for.
  if [[ " ${packages[*]} " = *" postgresql "* ]] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    as_root mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
  fi
  # Before the engine starts for the first time; a file that is there already is its owner's business.
  if [[ " ${packages[*]} " = *" docker.io "* ]] && [ ! -e /etc/docker/daemon.json ]; then
    as_root mkdir -p /etc/docker
    echo '{ "live-restore": true }' | as_root tee /etc/docker/daemon.json >/dev/null
  fi
  mkdir -p "$target"
  # One dead source of many fails the update, and what is wanted may still be there.
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold -y)
  say "Installing packages"
  show_progress "$target/apt-update.log" as_root "${apt[@]}" update || warn "apt-get update failed; going on with the lists there are"
  show_progress "$target/apt-install.log" as_root "${apt[@]}" install --no-install-recommends "${packages[@]}" || die "apt-get cannot install ${packages[*]}"
}
[ ${#packages[@]} -eq 0 ] || install_packages

if ! engine_answers; then
  if [ -n "${DOCKER_HOST:-}" ]; then
    die "no Docker engine answers at DOCKER_HOST=$DOCKER_HOST: $(docker version 2>&1 | tail -n 1)"
  fi
  want_root "to start the Docker engine"
  if ! as_root docker version >/dev/null 2>&1; then
    say "Starting the Docker engine"
    start_engine
  fi
  if [ "$(id -u)" != 0 ] && ! engine_answers; then
    say "Your user cannot reach the Docker engine: it has to be in the group docker, whose members are as good as root here"
    confirm "Add $(id -un) to the group docker?" || die "without it, run this with sudo"
    as_root usermod -aG docker "$(id -un)"
  fi
fi

[ ${#components[@]} -eq 0 ] || rustup component add "${components[@]}"
if [ ${#crates[@]} -gt 0 ]; then
  mkdir -p "$target"
  say "Building ${crates[*]} (some minutes)"
  # Without optimisation: they run for seconds, and an optimised build takes many minutes.
  CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0 CARGO_TARGET_DIR=$target/tools \
    show_progress "$target/tools.log" cargo install --locked --debug "${crates[@]}" || die "cargo cannot install ${crates[*]}"
  rm -rf "$target/tools"
fi
