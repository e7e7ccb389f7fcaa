"""An installation as the documentation speaks of it: what a user has in a directory, and the things that examples name."""

import pathlib
import re
import socket
import subprocess
import zipfile

import httpx
from computer_agents import ComputerAgentsClient
from conftest import TARGET, Installation, eventually, program

# A failure that an example does not show is one of the example, no answer may take for ever, and each begins a line.
CURL = '#!/bin/sh\nPATH=${PATH#*:}\ncurl --silent --show-error --max-time 60 $CURL_FAILS "$@"\ncode=$?\necho\nexit $code\n'


class Documented(Installation):
    def __init__(self, directory: pathlib.Path):
        super().__init__(directory)
        self.home = directory / "home"
        self.made = {}
        # For a server beside this one.
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.second = "127.0.0.1:%d" % free.getsockname()[1]

    def environment(self) -> dict[str, str]:
        # Without root nobody filters packets, and the doctor would call that a failure.
        return super().environment() | {"ATELIER_SANDBOX__ALLOW_UNFILTERED_EGRESS": "true"}

    def start(self):
        super().start()
        tools, built = self.home / "tools", self.home / "target/release"
        for directory in (tools, built, self.home / "backups"):
            directory.mkdir(parents=True)
        (self.home / ".atelier").symlink_to(self.data)
        for place in (tools, built):
            (place / "atelier").symlink_to(program("ATELIER_BIN", TARGET / "debug/atelier"))
        (tools / "curl").write_text(CURL)
        (tools / "curl").chmod(0o755)
        with zipfile.ZipFile(self.home / "release-notes.zip", "w") as archive:
            archive.writestr("SKILL.md", "---\nname: zipped-notes\ndescription: Writes notes.\n---\nSort what there is.\n")
        self.client = ComputerAgentsClient(api_key=self.key, base_url=self.url)

    def here(self, text: str) -> str:
        """Puts in what is elsewhere here than in the pages."""
        places = {
            "http://127.0.0.1:8080": self.url,
            "127.0.0.1:8090": self.second,
            "/srv/atelier": str(self.data),
            "/srv/": f"{self.home}/",
            "/backups/": f"{self.home}/backups/",
        }
        for place, real in places.items():
            text = text.replace(place, real)
        return text

    def variables(self, text: str) -> dict[str, str]:
        """Gives a value to each variable of an example that stands for something which is there already."""
        return {name: self.value(name) for name in re.findall(r"\b[A-Z_]+\b", text) if name in self.MAKERS}

    def value(self, name: str) -> str:
        if name not in self.made:
            self.made[name] = self.MAKERS[name](self)
        return self.made[name]

    def make_thread(self) -> str:
        """A thread with work behind it, whose agent has left something that listens."""
        task = "nohup python3 -m http.server 5000 >/dev/null 2>&1 & #shell"
        thread = self.client.run(task, self.value("ENV")).thread_id
        ports = f"{self.url}/v1/environments/{self.value('ENV')}/ports"
        headers = {"Authorization": f"Bearer {self.key}"}
        eventually("something listens", lambda: httpx.get(ports, headers=headers).json()["data"])
        return thread

    def make_environment(self) -> str:
        return self.client.environments.create("docs", internet_access=False)["id"]

    def make_run(self) -> str:
        runs = f"{self.url}/v1/runs?threadId={self.value('THREAD')}"
        return httpx.get(runs, headers={"Authorization": f"Bearer {self.key}"}).json()["runs"][0]["id"]

    MAKERS = {
        "API_KEY": lambda self: self.key,
        "ADMIN_KEY": lambda self: self.key,
        "DATABASE_URL": lambda self: f"postgres://atelier@localhost/atelier?host={self.data}/postgres/data",
        "PROJECT": lambda self: self.client.projects.get()["id"],
        "AGENT": lambda self: self.client.agents.create("Reporter", "claude-sonnet-4-5")["id"],
        "ENV": make_environment,
        "THREAD": make_thread,
        "RUN": make_run,
    }

    def tear_down(self) -> list[str]:
        if (self.home / "second/atelier.pid").exists():
            self.run(["atelier", "down", "--data-dir", f"{self.home}/second"], "/srv/second")
        return super().tear_down()

    def run(self, command: list[str], text: str, **options) -> subprocess.CompletedProcess:
        """Runs a program in the user's directory, with what the text of the example asks for."""
        environment = self.environment() | self.variables(text) | options.pop("environment", {})
        environment |= {"PATH": f"{self.home}/tools:{environment['PATH']}", "ATELIER_URL": self.url}
        if "/srv/second" in text:
            environment["ATELIER_SANDBOX__INSTALLATION"] = f"{self.name}-second"
        return subprocess.run(
            command, capture_output=True, text=True, timeout=100, cwd=self.home, env=environment, **options
        )
