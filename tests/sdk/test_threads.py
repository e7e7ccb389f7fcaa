"""`client.threads`: conversations, their messages, events and runs."""

import datetime

import pytest
from computer_agents import ApiClientError

from conftest import eventually


def settled(client, thread_id):
    return eventually("the run is over", lambda: (status := client.threads.get_status(thread_id))["status"] != "running" and status)


def test_a_thread_is_made_read_changed_and_deleted(client, environment):
    agent = client.agents.create("Helper", "claude-sonnet-4-5")
    thread = client.threads.create(
        environment["id"], agent_id=agent["id"], title="First", app_id="app-1", metadata={"a": [1, {"b": None}]}
    )
    assert thread["status"] == "active"
    assert thread["environmentId"] == environment["id"] and thread["agentId"] == agent["id"]
    assert (thread["title"], thread["appId"], thread["metadata"]) == ("First", "app-1", {"a": [1, {"b": None}]})
    assert (thread["messageCount"], thread["totalTokens"], thread["totalCost"]) == (0, 0, 0)
    assert client.threads.get(thread["id"])["messages"] == []

    changed = client.threads.update(thread["id"], title="Second", app_id=None, metadata=None, task="a task", status="archived")
    assert (changed["title"], changed["appId"], changed["metadata"]) == ("Second", None, None)
    assert (changed["task"], changed["status"]) == ("a task", "archived")
    assert changed["agentId"] == agent["id"], "what is not named stays"
    assert client.threads.update(thread["id"], agent_id=None)["agentId"] is None
    other = client.environments.create("other", internet_access=False)
    assert client.threads.update(thread["id"], environment_id=other["id"])["environmentId"] == other["id"]

    assert client.threads.delete(thread["id"]) is None
    with pytest.raises(ApiClientError) as gone:
        client.threads.get(thread["id"])
    assert gone.value.status == 404 and thread["id"] in gone.value.message
    client.environments.delete(other["id"], hard=True)


def test_threads_are_listed_newest_first_by_what_they_have(client, environment):
    agent = client.agents.create("Lister", "claude-sonnet-4-5")
    before = datetime.datetime.now(datetime.timezone.utc).isoformat()
    made = [client.threads.create(environment["id"], title=str(n), app_id="listing") for n in range(5)]
    bound = client.threads.create(environment["id"], agent_id=agent["id"])
    listed = client.threads.list(environment_id=environment["id"])
    assert [thread["id"] for thread in listed["data"]] == [bound["id"]] + [thread["id"] for thread in reversed(made)]
    assert (listed["total"], listed["hasMore"]) == (6, False)
    page = client.threads.list(app_id="listing", limit=2, offset=1)
    assert [thread["title"] for thread in page["data"]] == ["3", "2"]
    assert (page["total"], page["hasMore"]) == (5, True)
    assert [thread["id"] for thread in client.threads.list(agent_id=agent["id"])["data"]] == [bound["id"]]
    assert client.threads.list(created_after=before, environment_id=environment["id"])["total"] == 6
    client.threads.update(made[0]["id"], status="archived")
    assert client.threads.list(status="archived", app_id="listing")["total"] == 1
    assert client.threads.list(project_id=bound["projectId"], app_id="listing")["total"] == 5
    assert client.threads.list(limit=0)["data"] == []
    client.threads.delete(made[1]["id"])
    assert client.threads.list(app_id="listing")["total"] == 4
    # Schedules are not served yet, so no thread has one.
    assert client.threads.list(schedule_id="sched_none")["data"] == []


def test_a_thread_made_with_a_message_begins_at_once(client, environment):
    made = client.threads.create(environment["id"], content="Begin", title="With content")
    assert made["status"] == "running"
    assert settled(client, made["id"])["status"] == "completed"
    assert [message["content"] for message in client.threads.get(made["id"])["messages"]] == ["Begin", "You said: Begin"]

    for given in ({"task": "A task"}, {"messages": [{"role": "user", "content": "A task"}]}):
        response = client.threads.create_with_response(environment["id"], **given)
        assert settled(client, response["thread"]["id"])["status"] == "completed"
        assert client.threads.get_messages(response["thread"]["id"])["data"][-1]["content"] == "You said: A task"


def test_a_thread_made_with_a_stream_tells_its_id_first(client, environment):
    events = list(client.threads.create_stream(environment["id"], content="Stream", metadata={"k": "v"}))
    assert events[0]["type"] == "thread.created"
    thread = events[0]["thread"]
    assert (thread["status"], thread["environmentId"]) == ("running", environment["id"])
    completed = [event for event in events if event["type"] == "response.completed"]
    assert completed[0]["response"]["content"] == "You said: Stream"
    assert events[-1]["type"] == "stream.completed"
    assert client.threads.get(thread["id"])["metadata"] == {"k": "v"}


def test_a_thread_made_twice_with_one_key_is_one_thread(client, environment):
    def make():
        return client.threads.create(environment["id"], content="Once", idempotency_key="create-once")["id"]

    first = make()
    assert make() == first
    assert settled(client, first)["status"] == "completed"
    assert client.threads.get_messages(first)["total"] == 2


def test_messages_come_in_order_and_in_pages(client, thread):
    for text in ("one", "two", "three"):
        client.threads.send_message(thread["id"], content=text, message_metadata={"n": text}, persist_file_changes=True)
    everything = client.threads.get_messages(thread["id"])
    assert (everything["total"], everything["hasMore"]) == (6, False)
    contents = [message["content"] for message in everything["data"]]
    assert contents == ["one", "You said: one", "two", "You said: two", "three", "You said: three"]
    assert [message["role"] for message in everything["data"]] == ["user", "assistant"] * 3
    assert all(message["createdAt"] and message["timestamp"] for message in everything["data"])
    assert all(message["threadId"] == thread["id"] for message in everything["data"])
    newest = client.threads.get_messages(thread["id"], limit=2, order="desc", compact=True)
    assert [message["content"] for message in newest["data"]] == contents[:-3:-1]
    assert newest["hasMore"] is True
    assert client.threads.get_messages(thread["id"], limit=2, offset=5)["data"][0]["content"] == contents[5]
    read = client.threads.get(thread["id"])
    assert (read["messageCount"], read["lastMessagePreview"]) == (6, "You said: three")
    assert read["totalTokens"] == read["inputTokens"] + read["outputTokens"] > 0
    assert read["totalCost"] > 0 and isinstance(read["duration"], str)
    status = client.threads.get_status(thread["id"])
    assert (status["threadId"], status["status"]) == (thread["id"], "completed")
    assert status["startedAt"] and status["completedAt"]


def test_the_model_may_be_given_another_text_than_is_shown(client, thread):
    result = client.threads.send_message(thread["id"], content="Shown", execution_content="Hidden")
    assert result.content == "You said: Hidden"
    assert client.threads.get_messages(thread["id"])["data"][0]["content"] == "Shown"


def test_events_are_read_in_pages_and_as_a_stream(client, thread):
    client.threads.send_message(thread["id"], content="Log this")
    page = client.threads.get_events(thread["id"])
    numbers = [event["sequence"] for event in page["data"]]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= 4
    assert page["has_more"] is False
    assert all(event["type"] and event["threadId"] == thread["id"] for event in page["data"])
    first = client.threads.get_events(thread["id"], limit=2)
    assert first["has_more"] is True
    second = client.threads.get_events(thread["id"], cursor=first["nextCursor"], limit=100)
    assert [event["sequence"] for event in first["data"] + second["data"]] == numbers
    between = client.threads.get_events(thread["id"], after="1", before="4")
    assert [event["sequence"] for event in between["data"]] == [2, 3]

    streamed = list(client.threads.stream_events(thread["id"]))
    assert "type" not in streamed[0] and streamed[0]["threadId"] == thread["id"]
    assert [event["sequence"] for event in streamed if "sequence" in event] == numbers
    assert streamed[-1]["type"] == "stream.completed"
    rest = list(client.threads.stream_events(thread["id"], after=str(numbers[-2])))
    assert [event["sequence"] for event in rest if "sequence" in event] == numbers[-1:]
    assert len([e for e in client.threads.stream_events(thread["id"], limit=2) if "sequence" in e]) == 2


def test_runs_tell_what_was_done(client, thread):
    assert client.threads.get_runs(thread["id"])["data"] == []
    client.threads.send_message(thread["id"], content="Write hello.py")
    client.threads.send_message(thread["id"], content="More")
    runs = client.threads.get_runs(thread["id"], order="asc")["data"]
    assert [(run["status"], run["turns"], run["calls"]) for run in runs] == [("completed", 3, 2), ("completed", 1, 0)]
    assert all(run["threadId"] == thread["id"] and run["completedAt"] for run in runs)
    assert client.threads.get_runs(thread["id"], limit=1, offset=1, order="asc")["data"] == runs[1:]
    assert client.threads.get_runs(thread["id"], status="failed", include_legacy=True)["data"] == []


@pytest.mark.parametrize(
    "call",
    [
        lambda threads, id: threads.get(id),
        lambda threads, id: threads.update(id, title="x"),
        lambda threads, id: threads.delete(id),
        lambda threads, id: threads.get_messages(id),
        lambda threads, id: threads.send_message(id, content="x"),
        lambda threads, id: threads.cancel(id),
        lambda threads, id: threads.get_status(id),
        lambda threads, id: threads.get_events(id),
        lambda threads, id: list(threads.stream_events(id)),
        lambda threads, id: threads.get_runs(id),
    ],
)
@pytest.mark.parametrize("id", ["thread_nonexistent_12345", "thread_0198c0f2a7d07d1c9f7b1f5b5b0c2a11", "x"])
def test_a_thread_that_is_not_there_is_404(client, call, id):
    with pytest.raises(ApiClientError) as missing:
        call(client.threads, id)
    assert missing.value.status == 404
    assert missing.value.message and missing.value.message != "HTTP 404"


def test_a_thread_needs_what_it_names(client, environment):
    for given in ({"environment_id": "env_nothing"}, {"environment_id": environment["id"], "agent_id": "agent_nothing"}):
        with pytest.raises(ApiClientError) as missing:
            client.threads.create(**given)
        assert missing.value.status == 404
    with pytest.raises(ApiClientError) as empty:
        client.threads.create("")
    assert (empty.value.status, empty.value.message) == (400, "Missing required field: environmentId")
