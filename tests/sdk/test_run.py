"""`client.run`: a message becomes work in a container, streamed, and goes on where it stopped."""

import concurrent.futures
import json

import pytest
from computer_agents import ApiClientError, ComputerAgentsClient

from conftest import eventually


def test_a_task_streams_its_work_and_gives_its_answer(client, installation, environment):
    events = []
    result = client.run("Write hello.py and run it", environment["id"], on_event=events.append)
    assert result.content == "It said: hello from the agent"
    kinds = [event["type"] for event in events]
    for kind in ("response.started", "response.item.created", "response.item.completed", "response.completed"):
        assert kind in kinds
    assert kinds[-1] == "stream.completed"
    assert kinds.index("response.started") < kinds.index("response.item.created") < kinds.index("response.completed")
    items = [event["item"] for event in events if event["type"] == "response.item.completed"]
    assert [item["type"] for item in items] == ["reasoning", "text", "tool_call", "tool_call", "text"]
    assert all(isinstance(item.get("content", ""), str) for item in items)
    write, bash = items[2:4]
    assert (write["name"], write["status"]) == ("Write", "completed")
    assert json.loads(write["arguments"])["file_path"] == "/workspace/src/hello.py"
    assert write["changes"][0]["kind"] == "created" and "+print('hello from the agent')" in write["changes"][0]["diff"]
    assert bash["tool"]["exit_code"] == 0 and "hello from the agent" in bash["content"]
    # Tokens, as examples print them.
    assert result.run["status"] == "completed"
    assert result.run["tokens"]["input"] > 0 and result.run["tokens"]["output"] > 0

    # A second run of the thread finds the files of the first.
    second = client.run("What did it say?", environment["id"], thread_id=result.thread_id)
    assert second.thread_id == result.thread_id
    assert "Still there:" in second.content and "hello from the agent" in second.content
    assert client.files.get_file(environment["id"], "src/hello.py") == "print('hello from the agent')\n"

    # And so do another server, and the clients after it.
    installation.stop()
    assert installation.processes() == []
    installation.start()
    paths = {entry["path"] for entry in client.files.list_files(environment["id"])}
    assert {"src", "src/hello.py", "src/said.txt"} <= paths
    third = client.run("What did it say?", environment["id"], thread_id=result.thread_id)
    assert "hello from the agent" in third.content
    thread = client.threads.get(result.thread_id)
    assert [message["role"] for message in thread["messages"]] == ["user", "assistant"] * 3


def test_a_task_without_an_environment_runs_in_the_default_one(client):
    result = client.run("Anything")
    assert result.content == "You said: Anything"
    default = client.environments.get_default()
    assert client.threads.get(result.thread_id)["environmentId"] == default["id"]
    assert client._default_environment_id == default["id"]
    again = client.run("More", thread_id=result.thread_id, computer_id=default["id"])
    assert (again.content, again.thread_id) == ("You said: More", result.thread_id)


def test_an_agent_brings_its_model_and_instructions(client, installation, environment):
    agent = client.agents.create("Poet", "claude-haiku-4-5", instructions="Answer in rhymes, always.")
    result = client.run("Create a Flask API", environment["id"], agent_id=agent["id"], reasoning_effort="high")
    assert result.content.startswith("Done, by claude-haiku-4-5")
    asked = [json.loads(line)["body"] for line in installation.requests.read_text().splitlines()]
    asked = [body for body in asked if body["model"].startswith("claude-haiku-4-5")][-1]
    assert "Answer in rhymes, always." in json.dumps(asked["system"])
    assert client.agents.get(agent["id"])["lastRunAt"]


def test_a_failed_run_is_an_exception_with_a_sentence(client, thread):
    with pytest.raises(Exception, match="nothing about this is right"):
        client.run("Fail, please", thread["environmentId"], thread_id=thread["id"])
    assert client.threads.get_status(thread["id"])["status"] == "failed"
    assert client.run("Go on", thread["environmentId"], thread_id=thread["id"]).content == "You said: Go on"


def test_a_message_sent_twice_with_one_key_is_one_run(client, environment, thread):
    def send():
        return client.run("Once", environment["id"], thread_id=thread["id"], idempotency_key="once-1")

    first, second = send(), send()
    assert (first.content, first.run["id"]) == (second.content, second.run["id"])
    assert client.threads.get_messages(thread["id"])["total"] == 2


def test_text_that_python_takes_for_line_ends_arrives_whole(client, thread):
    text = "one\u2028two\u2029three\u0085four\r\nfive\x0bsix"
    result = client.run(text, thread["environmentId"], thread_id=thread["id"])
    assert result.content == f"You said: {text}"


def test_what_a_turn_is_given_reaches_the_tools(client):
    environment = client.environments.create(
        "given",
        internet_access=False,
        environment_variables=[{"key": "GREETING", "value": "hello"}],
        secrets=[{"key": "TOKEN", "value": "s3cret"}],
    )
    thread = client.threads.create(environment["id"])
    result = client.threads.send_message(thread["id"], content="Show the environment", env_vars={"PER_TURN": "now"})
    assert result.content == "hello/s3cret/now"
    assert (result.queued_in_batch, result.batch_job_id, result.admission_reason) == (False, None, None)
    assert len(result.events) > 5
    client.environments.delete(environment["id"], hard=True)


def test_a_busy_thread_refuses_and_a_cancel_ends_it(client, installation, environment, thread):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        seen = []

        def wait():
            with ComputerAgentsClient(api_key=installation.key, base_url=installation.url) as other:
                return other.run("Wait for me", environment["id"], thread_id=thread["id"], on_event=seen.append)

        waiting = pool.submit(wait)
        eventually("the call runs", lambda: any(event["type"] == "response.item.created" for event in seen))
        assert client.threads.get_status(thread["id"])["status"] == "running"
        with pytest.raises(ApiClientError) as busy:
            client.threads.send_message(thread["id"], content="Me too")
        assert (busy.value.status, busy.value.code) == (409, "thread_busy")
        assert client.threads.cancel(thread["id"]) is None
        result = waiting.result(10)
    assert (result.content, result.run["status"]) == ("", "cancelled")
    assert client.threads.get_status(thread["id"])["status"] == "cancelled"
    with pytest.raises(ApiClientError) as idle:
        client.threads.cancel(thread["id"])
    assert idle.value.status == 400

