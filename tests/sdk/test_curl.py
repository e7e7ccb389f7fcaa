"""The three calls of the API overview as they are written there; only the host and the ids are put in."""

import json
import subprocess


def curl(installation, path, *arguments):
    command = ["curl", "-sS", "-N", "-m", "60", "-w", "\n%{http_code}", "-X", "POST", f"{installation.url}/v1{path}"]
    command += ["-H", f"Authorization: Bearer {installation.key}", *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    body, _, status = output.rpartition("\n")
    return int(status), body


def frames(body):
    """The frames of a stream, as the fields of each."""
    parts = [part for part in body.split("\n\n") if part.strip() and not part.startswith(":")]
    return [dict(line.split(": ", 1) for line in part.splitlines()) for part in parts]


JSON = ("-H", "Content-Type: application/json")


def test_quick_start(installation, environment):
    status, body = curl(
        installation, "/threads", *JSON,
        "-d", """{
"environmentId": "%s",
"messages": [{ "role": "user", "content": "Create a Flask API and run it" }],
"stream": true
}""" % environment["id"],
    )
    assert status < 300
    seen = frames(body)
    for frame in seen:
        assert json.loads(frame["data"])["type"] == frame["event"]
    kinds = [frame["event"] for frame in seen]
    assert kinds[0] == "thread.created" and kinds[-2:] == ["response.completed", "stream.completed"]
    numbers = [int(frame["id"]) for frame in seen if "id" in frame]
    assert numbers == list(range(1, len(numbers) + 1))


def test_agents(installation):
    status, body = curl(
        installation, "/agents", *JSON,
        "-d", """{
"name": "Code Assistant",
"model": "claude-sonnet-4-5",
"instructions": "You are a senior engineer. Write clean code.",
"enabledSkills": ["web_search", "deep_research"]
}""",
    )
    agent = json.loads(body)["agent"]
    assert status == 201 and agent["enabledSkills"] == ["web_search", "deep_research"]


def test_environments(installation, client):
    status, body = curl(
        installation, "/environments", *JSON,
        "-d", """{
"name": "my-project",
"runtimes": ["python", "nodejs"],
"packages": ["flask", "pytest"]
}""",
    )
    environment = json.loads(body)["environment"]
    assert status == 201 and environment["packages"]["python"] == ["flask", "pytest"]
    client.environments.delete(environment["id"], hard=True)


def test_threads_without_a_content_type(installation, client, environment):
    """`curl -d` calls its JSON a form."""
    agent = client.agents.create("Assistant", "claude-sonnet-4-5")
    status, body = curl(
        installation, "/threads",
        "-d", """{
"environmentId": "%s",
"agentId": "%s"
}""" % (environment["id"], agent["id"]),
    )
    thread = json.loads(body)["thread"]
    assert status == 201
    assert (thread["status"], thread["environmentId"], thread["agentId"]) == ("active", environment["id"], agent["id"])
    for content in (
        """{
"content": "Create a user authentication system",
"stream": true
}""",
        """{
"content": "Add password reset functionality"
}""",
    ):
        status, body = curl(installation, f"/threads/{thread['id']}/messages", "-d", content)
        assert status == 200
        assert frames(body)[-1]["event"] == "stream.completed"
    contents = [message["content"] for message in client.threads.get_messages(thread["id"])["data"]]
    assert contents[::2] == ["Create a user authentication system", "Add password reset functionality"]


def test_the_two_halves_of_a_broken_stream_make_the_whole(installation, client, environment):
    result = client.run("Write hello.py", environment["id"])
    path = f"{installation.url}/v1/threads/{result.thread_id}/events?stream=true"

    def read(*arguments):
        command = ["curl", "-sS", "-N", "-m", "60", path, "-H", f"Authorization: Bearer {installation.key}", *arguments]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return [frame for frame in output.split("\n\n") if frame.strip() and "event: stream.ready" not in frame]

    whole = read()
    for cut, frame in enumerate(whole, 1):
        numbers = [line[4:] for line in frame.splitlines() if line.startswith("id: ")]
        if numbers:
            assert whole[:cut] + read("-H", f"Last-Event-ID: {numbers[0]}") == whole
