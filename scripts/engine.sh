# The Docker engine as the scripts see it: which one, whether it answers, starting it, and what it cannot do for us.
# Sourced after lib.sh. The server speaks to the engine's socket itself; the command line is only used here.
# shellcheck shell=bash disable=SC2154

# The address the docker command line uses, whether it comes from DOCKER_HOST or from a context.
engine_endpoint() {
  if [ -n "${DOCKER_HOST:-}" ]; then
    printf '%s' "$DOCKER_HOST"
  else
    docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null || printf 'unix:///var/run/docker.sock'
  fi
}

engine_answers() { command -v docker >/dev/null && timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# A user who was put into the group docker after login is in it only in new sessions. `sg` makes one, so that the
# script goes on instead of asking for a new login. Usage: enter_docker_group "$0" "$@"
enter_docker_group() {
  [ "$(id -u)" != 0 ] || return 0
  ! id -nG | tr ' ' '\n' | grep -qx docker || return 0
  getent group docker | cut -d: -f4 | tr ',' '\n' | grep -qx "$(id -un)" || return 0
  ! engine_answers || return 0
  exec sg docker -c "$(printf '%q ' "$@")"
}

# Starts an engine on a machine of which we know that none answers. Containers outlive the engine (live-restore), so that
# an engine's update or crash does not cost a running task its computer.
start_engine() {
  if [ -d /run/systemd/system ]; then
    as_root systemctl start docker || die "systemctl cannot start docker: see journalctl -u docker"
  else
    local file pid flags=(--log-level=warn)
    # A killed engine leaves its pid files behind, and a pid may be a zombie's or somebody else's by now: only a process
    # that really is an engine counts. The engine itself only asks whether there is a process, and waits for it in vain.
    for file in /var/run/docker.pid /var/run/docker/containerd/containerd.pid; do
      pid=$(as_root cat "$file" 2>/dev/null || true)
      if [ -n "$pid" ] && [[ ! "$(as_root readlink -e "/proc/$pid/exe" || true)" =~ /(dockerd|containerd)$ ]]; then
        as_root rm -f "$file"
      fi
    done
    # Said both as a flag and in the file, it is an error.
    grep -qs live-restore /etc/docker/daemon.json || flags+=(--live-restore)
    as_root sh -c 'exec setsid -f dockerd "$@" </dev/null >>/var/log/dockerd.log 2>&1' sh "${flags[@]}"
  fi
  local deadline=$((SECONDS + 40))
  # Asked as root: this session may not be in the group docker yet.
  until as_root docker version >/dev/null 2>&1; do
    if [ $SECONDS -ge $deadline ]; then
      as_root tail -n 15 /var/log/dockerd.log >&2 2>/dev/null || true
      die "the Docker engine does not start on this machine (a container without privileges?); its log is above." \
        "With an engine elsewhere on this machine, name its socket in DOCKER_HOST"
    fi
    sleep 0.1
  done
}

# Says what an unusual engine cannot do, before it fails in a stranger way. Usage: check_engine IMAGE
check_engine() {
  local image=$1 endpoint facts id mark
  endpoint=$(engine_endpoint)
  engine_answers || die "no Docker engine answers at $endpoint: $(docker version 2>&1 | tail -n 1)"
  case $endpoint in
    unix://*) ;;
    *) die "the Docker engine at $endpoint is reached over the network. Workspaces are directories of this machine and the" \
      "server speaks to containers over unix sockets in them, so the engine must run here: unset DOCKER_HOST" \
      "or choose a local context (docker context use default)" ;;
  esac
  # The server finds the engine by the same variable.
  [ "$endpoint" = unix:///var/run/docker.sock ] || export DOCKER_HOST=$endpoint

  facts=$(docker info --format '{{.ID}} {{.OperatingSystem}} {{.SecurityOptions}}')
  id=$(printf '%s' "${facts%% *}" | tr -c '[:alnum:]' '-')
  mark=$target/workspace-image/sees-$id
  if [ ! -e "$mark" ]; then
    # An engine in a virtual machine, or one whose socket was mounted into this container, has other files than we have.
    local probe=$target/workspace-image/probe seen
    mkdir -p "$probe"
    date +%s%N >"$probe/word"
    seen=$(docker run --rm --network none --volume "$probe:/probe:ro" --entrypoint sh "$image" -c 'cat /probe/word || true' 2>&1) \
      || die "the Docker engine at $endpoint cannot run a container: $(printf '%s' "$seen" | grep -v '^Run ' | tail -n 1)"
    [ "$seen" = "$(cat "$probe/word")" ] \
      || die "the Docker engine at $endpoint does not see this machine's files ($probe), as when it runs in a virtual machine" \
        "(Docker Desktop) or on the host of the container we are in. It must run on the same machine as the server"
    touch "$mark"
    case $facts in
      *rootless*) warn "this Docker engine is rootless: limits of memory, CPU and processes hold only with cgroup v2 and delegation," \
        "and the rules that keep containers from private networks cannot be set. 'atelier doctor' says what holds" ;;
    esac
  fi
}
