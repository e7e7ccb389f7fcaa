"""A server of the tests' own: started once, stopped once, and nothing left of it."""

import contextlib
import json
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import tempfile
import time

import httpx
import pytest
from computer_agents import ComputerAgentsClient

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
SCRIPTS = pathlib.Path(__file__).with_name("scripts")


def program(variable: str, default: pathlib.Path) -> str:
    path = pathlib.Path(os.environ.get(variable) or default)
    if not path.is_file():
        pytest.exit(f"{path} is not built (or name another in {variable})", returncode=2)
    return str(path.resolve())


def eventually(what, condition, limit=30.0):
    """Waits until `condition` gives something true, and gives that."""
    deadline = time.monotonic() + limit
    while True:
        if found := condition():
            return found
        assert time.monotonic() < deadline, f"not within {limit} s: {what}"
        time.sleep(0.02)


def docker(*arguments: str) -> list[str]:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.split()


class Installation:
    """`atelier serve` with everything it needs."""

    def __init__(self, directory: pathlib.Path):
        self.directory = directory
        self.data = directory / "data"
        self.name = f"sdk-{secrets.token_hex(6)}"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.listen = "127.0.0.1:%d" % free.getsockname()[1]
        self.url = f"http://{self.listen}"
        self.requests = directory / "requests.jsonl"
        self.model = self.start_model()
        self.server = None

    @property
    def script(self) -> pathlib.Path:
        return SCRIPTS / "sdk.toml"

    def start_model(self) -> subprocess.Popen:
        binary = program("SCRIPTED_CLAUDE_BIN", TARGET / "debug/scripted-claude")
        command = [binary, "--script", self.script, "--log", self.requests]
        model = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.model_url = json.loads(model.stdout.readline())["url"]
        return model

    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_HOST", "TMPDIR") if name in os.environ}
        return kept | {
            "ANTHROPIC_BASE_URL": self.model_url,
            "ANTHROPIC_API_KEY": "sk-ant-test",
            "ATELIER_SANDBOX__INSTALLATION": self.name,
            "ATELIER_SANDBOX__GUESTD": program("ATELIER_SANDBOX__GUESTD", TARGET / "guestd/guestd"),
            "ATELIER_LIMITS__REQUESTS_PER_WINDOW": "0",
            # A server that a test starts inside its container.
            "ATELIER_GIT__GITHUB_URL": "http://127.0.0.1:8099",
        }

    def atelier(self, *arguments: str, **options) -> subprocess.Popen:
        binary = program("ATELIER_BIN", TARGET / "debug/atelier")
        command = [binary, *arguments, "--data-dir", str(self.data)]
        return subprocess.Popen(command, env=self.environment(), **options)

    def start(self):
        with open(self.directory / "server.log", "ab") as log:
            self.server = self.atelier("serve", "--listen", self.listen, stdout=log, stderr=log)

        def is_ready():
            assert self.server.poll() is None, f"the server ended with {self.server.returncode}"
            try:
                return httpx.get(f"{self.url}/ready", timeout=60).is_success
            except httpx.TransportError:
                return False

        eventually("the server is ready", is_ready, 60)

    def stop(self):
        self.server.terminate()
        assert self.server.wait(30) == 0, "the server stops well"

    def log(self) -> str:
        path = self.directory / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def key(self) -> str:
        return (self.data / "api-key").read_text().strip()

    def containers(self) -> list[str]:
        return docker("ps", "-aq", "--filter", f"label=atelier.installation={self.name}")

    def processes(self) -> list[str]:
        """Processes that work in the data directory or were called with it."""
        found = []
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                works_in = os.readlink(process / "cwd")
            except OSError:
                continue
            if str(self.data) in command or works_in.startswith(str(self.data)):
                found.append(f"{process.name} {command}")
        return found

    def tear_down(self) -> list[str]:
        """Stops everything and gives what was left."""
        if self.server is not None and self.server.poll() is None:
            self.stop()
        left = self.processes()
        down = self.atelier("down", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said, _ = down.communicate(timeout=60)
        assert down.returncode == 0, said
        left += self.containers()
        left += docker("network", "ls", "-q", "--filter", f"label=atelier.installation={self.name}")
        return left


@contextlib.contextmanager
def running(kind, request, *arguments):
    """An installation of this kind that runs. At the end it stops well and leaves nothing, or that is a failure."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="atelier-sdk-"))
    installation = kind(directory, *arguments)
    try:
        installation.start()
        yield installation
        left = installation.tear_down()
        assert "panicked at" not in installation.log()
        assert left == [], "something is left"
    finally:
        for process in (installation.server, installation.model):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        for container in installation.containers():
            docker("rm", "-f", container)
        for image in docker("images", "-q", "--filter", f"label=atelier.built-by={installation.name}"):
            subprocess.run(["docker", "rmi", "-f", image], capture_output=True)
        if request.session.testsfailed:
            print(f"\nthe server's log, of {directory}:\n" + "\n".join(installation.log().splitlines()[-60:]))
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def installation(request):
    with running(Installation, request) as installation:
        yield installation


@pytest.fixture
def client(installation):
    with ComputerAgentsClient(api_key=installation.key, base_url=installation.url) as client:
        yield client


@pytest.fixture
def http(installation):
    """For what the SDK does not send."""
    headers = {"Authorization": f"Bearer {installation.key}"}
    with httpx.Client(base_url=installation.url, headers=headers, timeout=60) as http:
        yield http


@pytest.fixture
def environment(client):
    """A computer of the test's own, without internet."""
    environment = client.environments.create("test", internet_access=False)
    yield environment
    client.environments.delete(environment["id"], hard=True)


@pytest.fixture
def thread(client, environment):
    return client.threads.create(environment["id"])


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows the end of the server's log beside a failed test."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and "installation" in item.fixturenames and "installation" in getattr(item, "funcargs", {}):
        log = item.funcargs["installation"].log().splitlines()[-25:]
        report.sections.append(("the server's log", "\n".join(log)))
