#!/usr/bin/env bash
# Makes the workspace image, once: its label holds a hash of everything it is made from, so a second call only looks.
# Usage: image.sh [NAME]      NAME is atelier-workspace:latest unless given.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/engine.sh
. "$root/scripts/engine.sh"

enter_docker_group "$0" "$@"
image=${1:-"atelier-workspace:latest"}
base=$(sed -n 's/^FROM //p' "$root/docker/workspace/Dockerfile")
work=$target/workspace-image
shopt -s nullglob
certificates=(/usr/local/share/ca-certificates/*.crt)

# Names count as well as contents: a renamed certificate is another file in the image.
content=$(cat "$root"/docker/workspace/Dockerfile "$root"/docker/base-image.sh "${certificates[@]}" <(printf '%s\n' "${certificates[@]}") | sha256sum | cut -c1-32)

built_from() { docker image inspect --format '{{index .Config.Labels "atelier.content"}}' "$image" 2>/dev/null || true; }

[ "$(built_from)" != "$content" ] || exit 0

engine_answers || die "no Docker engine answers at $(engine_endpoint): run scripts/setup.sh"

mkdir -p "$work"
# Two builds at the same time would only be slower; the second finds the work done.
exec 9>"$work/lock"
flock 9
[ "$(built_from)" != "$content" ] || exit 0

began=$SECONDS
if ! docker image inspect "$base" >/dev/null 2>&1; then
  say "Getting the base image $base"
  if timeout 180 docker pull "$base" >"$work/pull.log" 2>&1; then
    note "from its registry"
  else
    note "no registry served it ($(tail -n 1 "$work/pull.log" | cut -c1-120)); making it from Debian's packages"
    show_progress "$work/base.log" bash "$root/docker/base-image.sh" "$base" \
      || die "cannot make $base; a mirror that answers can be named by DEBIAN_MIRROR"
  fi
fi

say "Building the workspace image $image"
rm -rf "$work/context"
mkdir -p "$work/context/ca"
cp "$root/docker/workspace/Dockerfile" "$work/context/"
# Git keeps no empty directory and COPY wants one; update-ca-certificates only reads *.crt.
: >"$work/context/ca/.keep"
if [ ${#certificates[@]} -gt 0 ]; then
  cp -L "${certificates[@]}" "$work/context/ca/"
  note "with ${#certificates[@]} extra CA certificate(s) of this machine"
fi

arguments=()
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
  [ -z "${!name:-}" ] || arguments+=(--build-arg "$name")
done

previous=$(docker image inspect --format '{{.Id}}' "$image" 2>/dev/null || true)
show_progress "$work/build.log" \
  docker build --label "atelier.content=$content" "${arguments[@]}" --tag "$image" "$work/context" \
  || die "cannot build $image"
# What the new image replaced serves nobody; containers that still run on it keep it, and that is right.
if [ -n "$previous" ]; then docker image rm "$previous" >/dev/null 2>&1 || true; fi
size=$(docker image inspect --format '{{.Size}}' "$image")
note "$image: $((size / 1000000)) MB, $((SECONDS - began)) s"
