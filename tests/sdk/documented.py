"""An installation as the documentation speaks of it: what a user has in a directory, and the things that examples name."""

import os
import pathlib
import re
import signal
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

    def make_environment(self) -> str:
        """With a thread that has work behind it, whose agent has left something that listens."""
        environment = self.client.environments.create("docs", internet_access=False)["id"]
        task = "nohup python3 -m http.server 5000 >/dev/null 2>&1 & #shell"
        self.made["THREAD"] = self.client.run(task, environment).thread_id
        ports, headers = f"{self.url}/v1/environments/{environment}/ports", {"Authorization": f"Bearer {self.key}"}
        eventually("something listens", lambda: httpx.get(ports, headers=headers, timeout=60).json()["data"])
        return environment

    def make_thread(self) -> str:
        self.value("ENV")
        return self.made["THREAD"]

    def make_trigger(self) -> str:
        action = {"type": "send_message", "prompt": "Review {{payload.pull_request.html_url}}"}
        made = self.client.triggers.create("Review", self.value("ENV"), "github", "pull_request.opened", action)
        self.made["WEBHOOK_SECRET"] = made["webhookSecret"]
        return made["webhookUrl"]

    def make_secret(self) -> str:
        self.value("WEBHOOK_URL")
        return self.made["WEBHOOK_SECRET"]

    def make_run(self) -> str:
        runs = f"{self.url}/v1/runs?threadId={self.value('THREAD')}"
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.get(runs, headers=headers, timeout=60).json()["runs"][0]["id"]

    MAKERS = {
        "API_KEY": lambda self: self.key,
        "ADMIN_KEY": lambda self: self.key,
        "DATABASE_URL": lambda self: f"postgres://atelier@localhost/atelier?host={self.data}/postgres/data",
        "PROJECT": lambda self: self.client.projects.get()["id"],
        "AGENT": lambda self: self.client.agents.create("Reporter", "claude-sonnet-4-5")["id"],
        "ENV": make_environment,
        "THREAD": make_thread,
        "RUN": make_run,
        "WEBHOOK_URL": make_trigger,
        "WEBHOOK_SECRET": make_secret,
    }

    def tear_down(self) -> list[str]:
        second = self.home / "second"
        if (second / "atelier.pid").exists():
            # The example that stops it has failed, or was not among those that ran.
            pid = int((second / "atelier.pid").read_text())
            if self.run(["atelier", "down", "--data-dir", str(second)], "/srv/second").returncode != 0:
                os.kill(pid, signal.SIGKILL)
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
