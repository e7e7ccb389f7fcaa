"""`client.threads`: search, copies, titles, feedback, and what was done told in other forms."""

import re

import pytest
from computer_agents import ApiClientError


@pytest.fixture
def worked(client, environment):
    """A thread whose run wrote a file and ran it."""
    thread = client.threads.create(environment["id"], title="Greeting")
    client.threads.send_message(thread["id"], content="Write hello.py")
    return client.threads.get(thread["id"])


def test_threads_are_found_by_what_was_said(client, environment):
    thread = client.threads.create(environment["id"], title="Kettle")
    client.threads.send_message(thread["id"], content="The zeppelins were flying <fast> over Quito")
    found = client.threads.search("zeppelin fly", environment_id=environment["id"], include_messages=True)
    assert (found["total"], found["hasMore"]) == (1, False)
    result = found["results"][0]
    assert (result["thread"]["id"], result["thread"]["environmentName"]) == (thread["id"], environment["name"])
    assert result["score"] > 0
    assert "<mark>zeppelins</mark>" in result["highlights"][0] and "<mark>flying</mark>" in result["highlights"][0]
    assert {message["role"] for message in result["matchingMessages"]} == {"user", "assistant"}
    assert all("&lt;fast&gt;" in message["highlight"] for message in result["matchingMessages"])
    metadata = found["searchMetadata"]
    assert (metadata["query"], metadata["queryType"]) == ("zeppelin fly", "fulltext")
    assert metadata["processingTimeMs"] >= 0
    assert client.threads.search("kettle", status="completed", limit=10)["results"][0]["thread"]["id"] == thread["id"]
    assert client.threads.search("kettle", status="failed")["total"] == 0
    assert client.threads.search("kettle", offset=1)["results"] == []
    assert client.threads.search("fast")["results"][0]["thread"]["id"] == thread["id"], "also between brackets"
    for hostile in ('"', "'; drop table threads; --", "((((", "- - -x", "&|!<->:*", "the of", "\u202e\u0001", ""):
        assert client.threads.search(hostile)["searchMetadata"]["query"] == hostile
    with pytest.raises(ApiClientError) as long:
        client.threads.search("x" * 10_000)
    assert (long.value.status, long.value.code) == (400, "VALIDATION_FAILED")


def test_a_copy_goes_on_with_what_was_said(client, worked):
    copy = client.threads.copy(worked["id"])
    assert (copy["title"], copy["status"]) == ("Greeting Copy", "completed")
    assert copy["environmentId"] == worked["environmentId"]
    contents = [message["content"] for message in worked["messages"]]
    assert [message["content"] for message in client.threads.get_messages(copy["id"])["data"]] == contents
    # The model knows it, and the files are there.
    assert "Still there" in client.threads.send_message(copy["id"], content="What did it say?").content
    assert client.threads.get(worked["id"])["messageCount"] == len(contents)

    named = client.threads.copy_with_response(worked["id"], title="Mine", truncate_at_message_index=1)
    assert (named["thread"]["title"], named["messagesCopied"]) == ("Mine", 1)
    assert (named["forkMode"], named["snapshotId"]) == ("current_environment", None)
    other = client.environments.create("other", internet_access=False)
    moved = client.threads.copy_with_response(worked["id"], target_environment_id=other["id"], file_copy_mode="none")
    assert (moved["environmentId"], moved["forkMode"]) == (other["id"], "existing_environment")
    names = lambda environment: {file["path"] for file in client.files.list_files(environment)}  # noqa: E731
    assert not names(other["id"])
    client.threads.copy(worked["id"], target_environment_id=other["id"], file_copy_mode="all")
    assert names(other["id"]) and names(other["id"]) <= names(worked["environmentId"])
    client.environments.delete(other["id"], hard=True)


def test_a_fork_begins_before_a_message(client, thread):
    for text in ("one", "two"):
        client.threads.send_message(thread["id"], content=text)
    fork = client.threads.fork_from_message(thread["id"], truncate_at_message_index=2, title="Other way")
    assert (fork["messagesCopied"], fork["thread"]["title"]) == (2, "Other way")
    contents = [message["content"] for message in client.threads.get(fork["thread"]["id"])["messages"]]
    assert contents == ["one", "You said: one"]
    assert client.threads.send_message(fork["thread"]["id"], content="three").content == "You said: three"
    for wrong in (1, 4):
        with pytest.raises(ApiClientError) as refused:
            client.threads.fork_from_message(thread["id"], truncate_at_message_index=wrong)
        assert refused.value.status == 400


def test_a_title_is_made_by_a_model_unless_somebody_chose_one(client, environment):
    thread = client.threads.create(environment["id"])
    made = client.threads.generate_title(thread["id"], message="Paint the shed")
    assert (made["generated"], made["skipped"], made["reason"]) == (True, False, None)
    assert made["title"] == made["thread"]["title"] == "You said: Paint the shed"
    assert made["thread"]["totalTokens"] > 0
    client.threads.update(thread["id"], title="Chosen")
    kept = client.threads.generate_title(thread["id"], message="Paint the shed")
    assert (kept["title"], kept["generated"], kept["skipped"]) == ("Chosen", False, True)
    forced = client.threads.generate_title(thread["id"], message="", content="Paint the door", force=True)
    assert (forced["title"], forced["generated"]) == ("You said: Paint the door", True)
    # Where no model answers the text itself has to do.
    fallen = client.threads.generate_title(thread["id"], message="Fail, please", force=True)
    assert (fallen["title"], fallen["reason"]) == ("Fail, please", "no_model_answered")


def test_feedback_is_counted(client, thread):
    assert client.threads.get_feedback(thread["id"]) == {
        "threadId": thread["id"], "upCount": 0, "downCount": 0, "userRating": None, "reportCount": 0
    }
    assert client.threads.set_feedback(thread["id"], "up")["upCount"] == 1
    rated = client.threads.set_feedback(thread["id"], "down")
    assert (rated["upCount"], rated["downCount"], rated["userRating"]) == (0, 1, "down")
    report = client.threads.report_issue(thread["id"], report_type="bug", message="It hung", metadata={"at": [1]})
    assert (report["reportType"], report["message"], report["metadata"]) == ("bug", "It hung", {"at": [1]})
    assert report["threadId"] == thread["id"] and report["id"] and report["userId"] and report["createdAt"]
    assert client.threads.report_feedback(thread["id"], report_type="general", message="Nice")["id"] != report["id"]
    assert client.threads.get_feedback(thread["id"])["reportCount"] == 2
    with pytest.raises(ApiClientError) as wrong:
        client.threads.set_feedback(thread["id"], "sideways")
    assert wrong.value.status == 400


def test_logs_tell_what_was_said_and_done(client, worked):
    added = client.threads.append_logs(worked["id"], logs=[{"message": "From outside", "type": "warning"}])
    assert added == {"success": True, "logsAdded": 1}
    logs = client.threads.get_logs(worked["id"])
    assert (logs[0]["role"], logs[0]["content"], logs[0]["isUserMessage"]) == ("user", "Write hello.py", True)
    assert [line["message"] for line in logs if line["isActionSummary"]] == [
        "Write: /workspace/src/hello.py", "Bash: python3 src/hello.py | tee src/said.txt"
    ]
    assert [line["message"] for line in logs if line["isReasoning"]] == ["One file is enough."]
    assert [line["message"] for line in logs if line["isLLMResponse"]][0] == "I will write it and run it."
    assert (logs[-2]["type"], logs[-1]["type"], logs[-1]["message"]) == ("success", "warning", "From outside")
    assert all(re.fullmatch(r"\d\d:\d\d", line["time"]) for line in logs[1:-1])
    bare = client.threads.get_logs(worked["id"], compact=True, include_conversation=False)
    assert not any(line["isUserMessage"] or line["isLLMResponse"] or line["metadata"] for line in bare)


def test_diffs_and_actions_tell_what_was_changed(client, worked):
    diffs = client.threads.get_diffs(worked["id"])
    assert [(diff["path"], diff["status"], diff["type"]) for diff in diffs] == [
        ("/workspace/src/hello.py", "added", "created")
    ]
    assert "+print('hello from the agent')" in diffs[0]["diff"]
    assert (diffs[0]["additions"], diffs[0]["deletions"]) == (1, 0)
    run = client.threads.get_runs(worked["id"])["data"][0]
    assert client.threads.get_diffs(worked["id"], execution_id=run["id"]) == diffs
    assert client.threads.get_diffs(run["id"]) == diffs, "older clients put the run in the thread's place"

    actions = client.threads.get_actions(worked["id"])["data"]
    assert [(action["toolName"], action["status"]) for action in actions] == [("Write", "completed"), ("Bash", "completed")]
    assert actions[0]["touchedResources"] == [{"type": "file", "path": "/workspace/src/hello.py", "access": "created"}]
    assert "hello from the agent" in actions[1]["output"]
    assert client.threads.get_actions(worked["id"], run_id=run["id"], limit=1)["data"] == actions[:1]
    groups = client.threads.get_activity_groups(worked["id"], status="sealed")["data"]
    assert [(group["runId"], group["actionIds"]) for group in groups] == [(run["id"], [a["id"] for a in actions])]
    assert groups[0]["metrics"]["actionCount"] == 2 and groups[0]["metrics"]["costUsd"] > 0
    assert client.threads.get_actions(worked["id"], group_id=groups[0]["id"])["data"] == actions
    clusters = client.threads.get_trace_clusters(worked["id"], limit=10, step_limit=5)["data"]
    assert {(cluster["toolName"], cluster["count"]) for cluster in clusters} == {("Write", 1), ("Bash", 1)}


def test_a_timeline_has_everything_in_order(client, worked):
    timeline = client.threads.get_timeline(worked["id"])
    items = timeline["data"]
    assert [item["type"] for item in items[:3]] == ["message", "run", "event"]
    assert items[0]["message"]["content"] == "Write hello.py"
    assert items[-1]["message"]["content"] == worked["messages"][-1]["content"]
    numbers = [item["sequence"] for item in items]
    assert numbers == sorted(numbers) and timeline["has_more"] is False
    first = client.threads.get_timeline(worked["id"], limit=3)
    rest = client.threads.get_timeline(worked["id"], cursor=first["nextCursor"], limit=500)
    assert [item["id"] for item in first["data"] + rest["data"]] == [item["id"] for item in items]


def test_a_text_is_classified_and_not_sent(client, thread):
    classified = client.threads.classify_activity(thread["id"], content="Faster!")
    assert (classified["decision"]["route"], classified["suggestedTransport"]) == ("none", "message")
    assert (classified["targetRunId"], classified["targetRunActive"]) == (None, False)
    assert client.threads.get_messages(thread["id"])["total"] == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda threads, id: threads.copy(id),
        lambda threads, id: threads.fork_from_message(id, truncate_at_message_index=0),
        lambda threads, id: threads.generate_title(id, message="x"),
        lambda threads, id: threads.get_feedback(id),
        lambda threads, id: threads.set_feedback(id, "up"),
        lambda threads, id: threads.report_issue(id, report_type="bug", message="x"),
        lambda threads, id: threads.get_logs(id),
        lambda threads, id: threads.append_logs(id, logs=[]),
        lambda threads, id: threads.get_diffs(id),
        lambda threads, id: threads.get_timeline(id),
        lambda threads, id: threads.get_actions(id),
        lambda threads, id: threads.get_activity_groups(id),
        lambda threads, id: threads.get_trace_clusters(id),
        lambda threads, id: threads.classify_activity(id, content="x"),
        lambda threads, id: threads.send_activity_message(id, content="x"),
    ],
)
def test_a_thread_that_is_not_there_is_404(client, call):
    with pytest.raises(ApiClientError) as missing:
        call(client.threads, "thread_nonexistent_12345")
    assert missing.value.status == 404 and "thread_nonexistent_12345" in missing.value.message
