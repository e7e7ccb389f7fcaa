#!/usr/bin/env bash
# Makes the image the Dockerfile starts from out of Debian's packages, for a machine that reaches no container registry.
# The result gets the very name that a registry would serve it under, so that one Dockerfile serves both.
# Usage: base-image.sh debian:SUITE-slim      DEBIAN_MIRROR names another mirror than the tool's default.
set -euo pipefail

image=${1:?usage: base-image.sh debian:SUITE-slim}
suite=${image#debian:}
suite=${suite%-slim}
mirror=${DEBIAN_MIRROR:-}

case $image in
  debian:*-slim) ;;
  *) echo "base-image.sh can only make debian:SUITE-slim, not $image" >&2; exit 2 ;;
esac

as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)

# Manuals and translations are most of what "slim" leaves out; licences stay.
excluded=(
  '/usr/share/man/*' '/usr/share/info/*' '/usr/share/groff/*' '/usr/share/lintian/*'
  '/usr/share/doc/*' '/usr/share/locale/*'
)

work=$(mktemp -d)
trap '"${as_root[@]}" rm -rf "$work"' EXIT

# Named, because on Ubuntu apt itself does not trust Debian's keys.
keys=/usr/share/keyrings/debian-archive-keyring.gpg
keyring=()
[ ! -e "$keys" ] || keyring=("--keyring=$keys")

if command -v mmdebstrap >/dev/null; then
  dpkg_options=()
  for path in "${excluded[@]}"; do dpkg_options+=("--dpkgopt=path-exclude=$path"); done
  dpkg_options+=('--dpkgopt=path-include=/usr/share/doc/*/copyright')
  # shellcheck disable=SC2016  # mmdebstrap hands the new root to the hooks as $1.
  # The hook keeps apt's downloads and lists out of every layer built on this one.
  "${as_root[@]}" mmdebstrap --variant=apt "${dpkg_options[@]}" \
    --customize-hook='printf "DPkg::Post-Invoke { \"rm -f /var/cache/apt/archives/*.deb\"; };\n" >"$1/etc/apt/apt.conf.d/docker-clean"' \
    --customize-hook='rm -f "$1/etc/resolv.conf" "$1/etc/hostname"' \
    "${keyring[@]}" "$suite" "$work/base.tar" ${mirror:+"$mirror"}
  "${as_root[@]}" cat "$work/base.tar" | docker import --change 'CMD ["bash"]' - "$image"
elif command -v debootstrap >/dev/null || [ -x /usr/sbin/debootstrap ]; then
  PATH=$PATH:/usr/sbin
  "${as_root[@]}" debootstrap --variant=minbase "${keyring[@]}" "$suite" "$work/root" ${mirror:+"$mirror"}
  "${as_root[@]}" find "$work/root/usr/share/man" "$work/root/usr/share/info" "$work/root/usr/share/locale" \
    "$work/root/var/lib/apt/lists" "$work/root/var/cache/apt/archives" -mindepth 1 -delete
  "${as_root[@]}" rm -f "$work/root/etc/resolv.conf" "$work/root/etc/hostname"
  "${as_root[@]}" tar -C "$work/root" -cf - . | docker import --change 'CMD ["bash"]' - "$image"
else
  echo "neither mmdebstrap nor debootstrap is installed: run scripts/setup.sh" >&2
  exit 1
fi
