#!/usr/bin/env bash
# Tries docker/compose.yaml as its users run it: up, a task, internet that reaches nothing private, a crash, a restart, down.
# In a project, a data directory and on ports of its own. The server's image gets the binaries that cargo has built, so that no
# image with a Rust toolchain is needed; everything else of it is built from docker/.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/engine.sh
. "$root/scripts/engine.sh"

cd "$root"
"$root/scripts/setup.sh" --dev
enter_docker_group "$0" "$@"
if docker compose version >/dev/null 2>&1; then
  compose=(docker compose)
else
  command -v docker-compose >/dev/null || as_root apt-get install -y --no-install-recommends docker-compose
  compose=(docker-compose)
fi

say "Building"
[ -n "${ATELIER_BIN:-}" ] || cargo build --quiet --workspace --bins
atelier=${ATELIER_BIN:-$target/debug/atelier}
"$root/scripts/guestd.sh"
"$root/scripts/image.sh"
docker build --quiet --tag atelier-postgres:latest docker/postgres >/dev/null
docker build --quiet --tag atelier-try-runtime:latest --target runtime --file docker/server/Dockerfile . >/dev/null

work=$(mktemp -d)
mkdir "$work/image"
cp "$atelier" "$target/guestd/guestd" "$work/image/"
printf 'FROM atelier-try-runtime:latest\nCOPY atelier /usr/local/bin/atelier\nCOPY guestd /usr/lib/atelier/guestd\n' >"$work/image/Dockerfile"
docker build --quiet --tag atelier-try:latest "$work/image" >/dev/null

# The files that a user has, and .env beside them.
cp -r docker "$work/docker"
url=http://127.0.0.1:18095
cat >"$work/docker/.env" <<END
COMPOSE_PROJECT_NAME=atelier-try-$$
ANTHROPIC_API_KEY=offline
ANTHROPIC_BASE_URL=http://127.0.0.1:18090
POSTGRES_PASSWORD=a-password
POSTGRES_PORT=15440
SERVER_IMAGE=atelier-try:latest
LISTEN=127.0.0.1:18095
DATA_DIR=$work/data
ATELIER_SANDBOX__INSTALLATION=try-$$
END
"$target/debug/scripted-claude" --listen 127.0.0.1:18090 >"$work/claude.log" 2>&1 &
claude=$!

compose() { "${compose[@]}" --project-directory "$work/docker" --file "$work/docker/compose.yaml" "$@"; }
end() {
  local status=$?
  [ $status = 0 ] || compose logs --tail 40 >&2 || true
  compose down --volumes >"$work/down.log" 2>&1 || true
  kill "$claude" 2>/dev/null || true
  docker ps --all --quiet --filter "label=atelier.installation=try-$$" | xargs --no-run-if-empty docker rm --force >/dev/null
  as_root rm -rf "$work"
}
trap end EXIT

wait_healthy() {
  local deadline=$((SECONDS + 90))
  until [ "$(docker inspect --format '{{.State.Health.Status}}' "$(compose ps --quiet atelier)")" = healthy ]; do
    [ $SECONDS -lt $deadline ] || die "the server does not become healthy"
    sleep 0.5
  done
}
call() { curl --silent --show-error --fail --noproxy '*' --header "Authorization: Bearer $(as_root cat "$work/data/api-key")" "$@"; }
# field NAME: of the JSON object that is read.
field() { python3 -c "import json,sys; print(json.load(sys.stdin)$1)"; }
ask() { call --no-buffer "$url/v1/threads/$1/messages" --data "$(python3 -c 'import json,sys; print(json.dumps({"content": sys.argv[1]}))' "$2")"; }

say "docker compose up"
compose up --detach --no-build
wait_healthy
note "healthy after $SECONDS s of this script"

say "A first task"
"$atelier" run "Create a Flask API and run it" --url "$url" --api-key-file "$work/data/api-key" 2>&1 | tail -n 3 >&2

say "A computer with internet reaches neither the host nor the database"
environment=$(call "$url/v1/environments" --data '{"name": "net", "internetAccess": true}' | field '["environment"]["id"]')
call --request POST "$url/v1/environments/$environment/start" >/dev/null
container=$(docker ps --quiet --filter "label=atelier.installation=try-$$" --filter "label=atelier.environment=$environment")
gateway=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}' "$container")
for address in "$gateway/18095" "$gateway/15440" "$gateway/22" 169.254.169.254/80; do
  ! docker exec "$container" timeout 3 bash -c "echo >/dev/tcp/$address" 2>/dev/null || die "the container reaches $address"
done

say "A server that is killed comes back with everything"
threads=$(call "$url/v1/threads" | field '["data"].__len__()')
docker kill "$(compose ps --quiet atelier)" >/dev/null
compose up --detach --no-build
wait_healthy
[ "$(call "$url/v1/threads" | field '["data"].__len__()')" = "$threads" ] || die "threads are gone"
thread=$(call "$url/v1/threads" --data "{\"environmentId\": \"$environment\"}" | field '["thread"]["id"]')
ask "$thread" "hello" | grep -q '^event: stream.completed' || die "a message is not answered"

say "docker compose down"
compose stop atelier
compose run --rm atelier down >&2
[ -z "$(docker ps --all --quiet --filter "label=atelier.installation=try-$$")" ] || die "containers are left"
compose down
say "It works, with the image $(docker image inspect --format '{{.Size}}' atelier-try:latest | awk '{ print int($1 / 1000000) }') MB (a debug build)"
