"""What the TypeScript SDK sends, and what its own integration tests ask of the answers.

That SDK is in no package registry, so its requests are made here as it makes them: paths without `/v1`, no content type
without a body, the file of an upload before its path, `Accept: text/event-stream` also where no stream is meant.
"""

import json
import time

import httpx
import pytest

STREAM = {"Accept": "text/event-stream", "User-Agent": "node"}


def read_stream(response):
    """Its parser: lines that begin with `data: `, up to the end of the body."""
    events, content, run = [], "", None
    buffer = ""
    for chunk in response.iter_text():
        buffer += chunk
        *lines, buffer = buffer.split("\n")
        for line in lines:
            if line.startswith("data: ") and line[6:].strip():
                event = json.loads(line[6:])
                events.append(event)
                if event["type"] == "response.completed":
                    content = event["response"].get("content") or ""
                elif event["type"] == "stream.completed":
                    run = event.get("run")
    assert buffer == "", "its last line would be lost"
    return content, run, events


def send(http, thread, **body):
    with http.stream("POST", f"/threads/{thread}/messages", json=body, headers=STREAM, timeout=120) as response:
        assert response.status_code == 200
        return read_stream(response)


def upload(http, environment, filename, content, path=None):
    parts = [("file", (filename, content, "application/octet-stream"))]
    if path is not None:
        parts.append(("path", (None, path)))
    response = http.post(f"/environments/{environment}/files/upload", files=parts)
    assert response.is_success, response.text
    return response.json()


def test_environments(http):
    assert http.get("/health").json()["status"] == "healthy"
    assert isinstance(http.get("/environments").json()["data"], list)
    name = f"test-env-{int(time.time() * 1000)}"
    made = http.post("/environments", json={"name": name, "internetAccess": False}).json()["environment"]
    assert made["id"] and "test-env-" in made["name"]
    assert http.get(f"/environments/{made['id']}").json()["environment"]["id"] == made["id"]
    changed = http.patch(f"/environments/{made['id']}", json={"internetAccess": True}).json()["environment"]
    assert changed["internetAccess"] is True
    default = http.get("/environments/default").json()
    assert default["id"] and default["isDefault"] is True
    assert http.delete(f"/environments/{made['id']}").is_success


def test_agents(http):
    assert isinstance(http.get("/agents").json()["data"], list)
    body = {"name": f"test-agent-{int(time.time() * 1000)}", "model": "gpt-4o", "instructions": "Test.", "unknown": 1}
    made = http.post("/agents", json=body).json()["agent"]
    assert http.get(f"/agents/{made['id']}").json()["agent"]["id"] == made["id"]
    changed = http.patch(f"/agents/{made['id']}", json={"instructions": "Updated instructions"}).json()["agent"]
    assert "Updated" in changed["instructions"]
    models = http.get("/agents/models").json()
    assert models["tier"] and models["models"]
    assert http.delete(f"/agents/{made['id']}").is_success


def test_threads_and_messages(http, environment):
    listed = http.get("/threads").json()
    assert isinstance(listed["data"], list) and listed["has_more"] is not None and listed["total_count"] is not None
    thread = http.post("/threads", json={"environmentId": environment["id"]}).json()["thread"]
    assert thread["id"] and thread["environmentId"] == environment["id"]
    assert http.get(f"/threads/{thread['id']}").json()["thread"]["id"] == thread["id"]
    assert isinstance(http.get(f"/threads/{thread['id']}/messages").json()["data"], list)
    content, run, events = send(
        http, thread["id"], content="Say hello", agentConfig={"model": "claude-haiku-4-5", "instructions": "Be kind."},
        internetAccess=False, envVars={"A": "1"}, secrets=[], setupScripts=[], mcpServers=[], attachments=[],
    )
    assert content == "You said: Say hello" and len(events) > 2 and run["status"] == "completed"
    # A second message at once after the first stream has ended.
    assert send(http, thread["id"], content="And again")[0] == "You said: And again"
    status = http.get(f"/threads/{thread['id']}/status").json()
    assert status["status"] == "completed"
    assert http.delete(f"/threads/{thread['id']}").is_success


def test_a_thread_without_a_body_is_in_the_default_environment(http):
    made = http.post("/threads", json={}).json()["thread"]
    assert made["environmentId"] == http.get("/environments/default").json()["id"]
    alias = http.post("/threads", json={"computerId": made["environmentId"], "unknown": True})
    assert alias.json()["thread"]["environmentId"] == made["environmentId"]
    cancelled = http.post(f"/threads/{made['id']}/cancel")
    assert cancelled.status_code in (200, 400) and isinstance(cancelled.json(), dict)


def test_files(http, environment):
    id = environment["id"]
    assert isinstance(http.get(f"/environments/{id}/files").json()["data"], list)
    uploaded = upload(http, id, "test-sdk-file.py", b"# marker\n")
    assert uploaded["success"] is True and uploaded["filename"] == "test-sdk-file.py"
    got = http.get(f"/environments/{id}/files/test-sdk-file.py", headers=STREAM)
    assert got.status_code == 200 and "marker" in got.text
    assert http.delete(f"/environments/{id}/files/test-sdk-file.py").json()["success"] is True

    upload(http, id, "move-test.txt", b"moved content")
    moved = http.post(f"/environments/{id}/files/move", json={"sourcePath": "move-test.txt", "destPath": "moved-test.txt"})
    assert moved.json()["success"] is True
    assert http.get(f"/environments/{id}/files/moved-test.txt", headers=STREAM).text == "moved content"
    assert http.delete(f"/environments/{id}/files/moved-test.txt").json()["success"] is True

    # A path and no file name, as its documentation calls it: the path is the file's.
    assert upload(http, id, "undefined", b"x", "src/app.py")["path"] == "src/app.py"
    assert upload(http, id, "other.py", b"y", "src")["path"] == "src/other.py"
    assert upload(http, id, "z.py", b"z", "src/deep")["path"] == "src/deep/z.py"
    listed = http.get(f"/environments/{id}/files").json()
    assert listed["data"] == listed["files"]
    assert "src/deep/z.py" in [entry["path"] for entry in listed["data"]]
    # The whole path as one segment.
    assert http.get(f"/environments/{id}/files/src%2Fapp.py").text == "x"
    assert http.get(f"/environments/{id}/files/nothing", headers=STREAM).json()["error"] == "Not Found"
    # Its uploads keep a `/v1` of the base URL.
    response = http.post(f"/v1/environments/{id}/files/upload", files={"file": ("v1.txt", b"1")})
    assert response.json()["success"] is True


def test_lifecycle_without_bodies(http, environment):
    id = environment["id"]
    started = http.post(f"/environments/{id}/start", json={"cpus": 1, "memory": "512m", "workspaceId": "x"}).json()
    assert started["success"] is True and started["containerId"] and started["containerName"]
    assert "imageTag" in started and started["workspacePath"] == "/workspace"
    status = http.get(f"/environments/{id}/status").json()
    assert status["status"] == "running" and status["memory"]["used"] >= 0 and status["cpu"]["usage"] is not None
    stopped = http.post(f"/environments/{id}/stop").json()
    assert stopped["success"] is True and stopped["stopped"] == 1 and len(stopped["containers"]) == 1
    assert http.post(f"/environments/{id}/stop").json()["stopped"] == 0


@pytest.mark.parametrize("path", ["/threads/thread_nonexistent_12345", "/environments/env_nonexistent_12345"])
def test_errors(http, path):
    answer = http.get(path)
    assert answer.status_code == 404
    body = answer.json()
    assert body["error"] == "Not Found" and isinstance(body["message"], str)


def test_a_failed_run_is_told_twice(http, thread):
    """It swallows `stream.error`, and then reads the run's status."""
    content, run, events = send(http, thread["id"], content="Fail, please")
    kinds = [event["type"] for event in events]
    assert content == "" and run["status"] == "failed"
    assert kinds[-2:] == ["stream.error", "stream.completed"]
    error = events[-2]
    assert isinstance(error["error"], str) and error["message"] == error["error"]


def test_a_browser_is_let_in(installation):
    headers = {
        "Origin": "https://example.com",
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization,content-type,last-event-id,x-computer-agents-organization",
    }
    answer = httpx.options(f"{installation.url}/threads/x", headers=headers, timeout=60)
    assert answer.is_success
    assert "PATCH" in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert "authorization" in allowed and "last-event-id" in allowed


def test_runs(http, environment):
    agent = http.post("/agents", json={"name": "Runner", "model": "claude-sonnet-4-5"}).json()["agent"]
    body = {"name": "Greet", "agentName": "Runner", "task": "Write hello.py", "environmentId": environment["id"]}
    run = http.post("/runs", json=body).json()["run"]
    path = f"/runs/{run['id']}"
    deadline = time.monotonic() + 60
    while run["status"] in ("pending", "running") and time.monotonic() < deadline:
        time.sleep(0.1)
        run = http.get(path).json()["run"]
    assert (run["status"], run["name"], run["agentId"]) == ("success", "Greet", agent["id"])
    assert isinstance(run["duration"], float) and run["tokenUsage"]["outputTokens"] > 0
    listed = http.get("/runs", params={"status": "success", "threadId": run["threadId"]}).json()
    assert [one["id"] for one in listed["runs"]] == [run["id"]] and listed["pagination"]["total"] == 1
    assert [diff["path"] for diff in http.get(f"/threads/{run['id']}/diffs").json()["diffs"]] == ["/workspace/src/hello.py"]
    assert http.post(f"{path}/logs", json={"level": "warning", "message": "Told by a client"}).is_success
    logs = http.get(f"{path}/logs", params={"level": "all", "format": "json"}).json()["logs"]
    assert (logs[0]["message"], logs[-1]["level"], logs[-1]["message"]) == ("Write hello.py", "warning", "Told by a client")
    assert http.patch(path, json={"title": "Greeted"}).json()["run"]["title"] == "Greeted"
    assert http.delete(path).is_success and http.get(path).status_code == 404
