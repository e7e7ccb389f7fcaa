"""The server against its own OpenAPI document, by Schemathesis.

Every operation is called with what the document allows and with what it forbids. No answer may be a failure of the server
(but for what says 501 and says so in the document), have a status or a type that the document does not name, or a body that
is not as the document says. `ATELIER_TEST_CALLS` is how many calls are made up for each operation; with 10 or more the
phase that covers each constraint of each field comes in, too.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

import httpx
import pytest
from computer_agents import ComputerAgentsClient
from conftest import Installation, running

CALLS = int(os.environ.get("ATELIER_TEST_CALLS", "3"))
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]


class Fuzzed(Installation):
    def environment(self) -> dict[str, str]:
        # Calls without a right key come often here.
        return super().environment() | {"ATELIER_LIMITS__FAILED_LOGINS_PER_MINUTE": "1000000"}


@pytest.fixture
def fuzzed(request):
    with running(Fuzzed, request) as installation:
        yield installation


def subjects(client: ComputerAgentsClient) -> dict[str, str]:
    """Makes one of each resource, so that calls have something to be about."""
    environment = client.environments.create("contract", internet_access=False)["id"]
    client.files.upload_file(environment, "a.txt", b"a")
    agent = client.agents.create("Contract", "claude-sonnet-4-5")
    schedule = client.schedules.create(
        "Daily", agent["id"], agent["name"], "Work", schedule_type="recurring", cron_expression="0 9 * * *", enabled=False
    )
    action = {"type": "send_message", "message": "x"}
    made = {
        "schedules": schedule,
        "skills": client.skills.create(name="Greeter", description="Greets.", markdown="Say hello."),
        "threads": client.threads.create(environment, agent_id=agent["id"]),
        "triggers": client.triggers.create("On push", environment, "github", "push", action),
    }
    return {"agents": agent["id"], "environments": environment} | {name: it["id"] for name, it in made.items()}


def with_frames(document: dict) -> dict:
    """Says of streams what OpenAPI 3.1 has no words for: that the document's schema is that of the `data` of each frame."""
    for operation in (operation for item in document["paths"].values() for operation in item.values()):
        for answer in operation["responses"].values():
            if stream := answer.get("content", {}).get("text/event-stream"):
                # By its clients' rules the first frame of what is read again has no type.
                greeting = {"required": ["after", "threadId"], "not": {"required": ["type"]}}
                event = {"anyOf": [stream["schema"], greeting]}
                data = {"type": "string", "contentMediaType": "application/json", "contentSchema": event}
                stream["schema"] = {"type": "object", "required": ["data"], "properties": {"data": data}}
    return document


def settings(document: dict, ids: dict[str, str]) -> str:
    """What Schemathesis is told of single operations, as TOML."""
    operations = []
    for path, item in document["paths"].items():
        resource, _, rest = path[1:].partition("/{id}")
        for method, operation in item.items():
            told = {"include-name": f"{method.upper()} {path}", "checks": {}}
            # Not its end, which would be that of all the rest.
            if resource in ids and (rest or method != "delete"):
                told["parameters"] = {"path.id": ids[resource]}
            expected = [status for status in ("501", "502") if status in operation["responses"]]
            told["checks"]["not_a_server_error"] = {"expected-statuses": ["2xx", "3xx", "4xx", *expected]}
            operations.append(told)
    tables = ["\n".join(f"{name} = {inline(of)}" for name, of in operation.items()) for operation in operations]
    return "".join(f"[[operations]]\n{table}\n" for table in tables)


def inline(of) -> str:
    if isinstance(of, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {inline(item)}" for name, item in of.items()) + "}"
    return json.dumps(of)


@pytest.mark.timeout(900 + 60 * CALLS)
def test_every_answer_is_as_the_document_says(fuzzed, tmp_path):
    document = with_frames(httpx.get(f"{fuzzed.url}/openapi.json", timeout=60).json())
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    with ComputerAgentsClient(api_key=fuzzed.key, base_url=fuzzed.url) as client:
        (tmp_path / "schemathesis.toml").write_text(settings(document, subjects(client)))
    phases = "examples,fuzzing" if CALLS < 10 else "examples,coverage,fuzzing,stateful"
    command = [
        pathlib.Path(sys.executable).with_name("schemathesis"), "--no-color",
        "run", "openapi.json", "--url", f"{fuzzed.url}/v1", "--header", f"Authorization: Bearer {fuzzed.key}",
        "--phases", phases, "--max-examples", str(CALLS), "--checks", ",".join(CHECKS), "--warnings", "off",
        "--continue-on-failure", "--no-shrink", "--workers", "2", "--request-timeout", "60", "--seed", "1",
    ]  # fmt: skip
    # It finds its settings in the directory that it is called in.
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    if kept := os.environ.get("ATELIER_TEST_CONTRACT_LOG"):
        pathlib.Path(kept).write_text(run.stdout)
    counted = re.search(r"(\d+) generated", run.stdout)
    line = {"test": "contract", "calls": int(counted[1]) if counted else 0, "pass": run.returncode == 0}
    print(json.dumps(line))
    if report := os.environ.get("ATELIER_TEST_REPORT"):
        with open(report, "a") as file:
            print(json.dumps(line, separators=(",", ":")), file=file)
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2_000:]
