"""`client.threads`, method by method: each has a test here that looks at what came back, and none is forgotten."""

import base64
import functools
import inspect
import threading

import pytest
from computer_agents import ApiClientError

from conftest import eventually

#: What is looked at by which test.
COVERED = {}


def covers(*methods):
    """Says which methods of `client.threads` a test is about, and has it fail if one of them was not called."""

    def mark(test):
        for method in methods:
            COVERED.setdefault(method, []).append(test.__name__)

        @functools.wraps(test)
        def watched(*, client, **fixtures):
            called = set()

            class Watched:
                def __getattr__(self, name):
                    called.add(name)
                    return getattr(client.threads, name)

            test(Watched(), client=client, **fixtures)
            assert set(methods) <= called, f"not called: {set(methods) - called}"

        # What pytest hands over: all but the watched methods.
        parameters = list(inspect.signature(test).parameters.values())[1:]
        watched.__signature__ = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in parameters])
        return watched

    return mark


def settled(threads, thread_id):
    return eventually("the run is over", lambda: (s := threads.get_status(thread_id))["status"] not in ("running", "active") and s)


def contents(threads, thread_id):
    return [message["content"] for message in threads.get_messages(thread_id)["data"]]


@pytest.fixture
def spoken(client, thread):
    """A thread with two messages and their answers."""
    for text in ("one", "two"):
        client.threads.send_message(thread["id"], content=text)
    return client.threads.get(thread["id"])


@pytest.fixture
def waiting(client, http, thread):
    """A thread whose run sits in a command that does not end, and the run's id."""
    sent = http.post(f"/threads/{thread['id']}/messages", json={"content": "Wait for me", "stream": False})
    run = sent.raise_for_status().json()["run"]["id"]
    eventually("the command runs", lambda: client.threads.get_actions(thread["id"])["data"])
    yield thread["id"], run
    if client.threads.get_status(thread["id"])["status"] == "running":
        client.threads.cancel(thread["id"])


@covers("create", "get", "update", "list", "delete", "create_with_response", "create_stream")
def test_threads(threads, client, environment):
    made = threads.create(environment["id"], title="A", metadata={"k": [1]}, app_id="conversation")
    assert (made["title"], made["metadata"], made["status"], made["messageCount"]) == ("A", {"k": [1]}, "active", 0)
    assert threads.update(made["id"], title="B")["title"] == threads.get(made["id"])["title"] == "B"
    assert [thread["id"] for thread in threads.list(app_id="conversation")["data"]] == [made["id"]]
    response = threads.create_with_response(environment["id"], content="Now", message_metadata={"from": "sdk"})
    assert response["thread"]["status"] == "running"
    settled(threads, response["thread"]["id"])
    messages = threads.get(response["thread"]["id"])["messages"]
    assert [(message["content"], message["metadata"]) for message in messages] == [
        ("Now", {"from": "sdk"}), ("You said: Now", None)
    ]
    events = list(threads.create_stream(environment["id"], content="Live"))
    assert events[0]["type"] == "thread.created" and events[-1]["type"] == "stream.completed"
    assert contents(threads, events[0]["thread"]["id"]) == ["Live", "You said: Live"]
    assert threads.delete(made["id"]) is None
    with pytest.raises(ApiClientError) as gone:
        threads.get(made["id"])
    assert gone.value.status == 404


@covers("send_message", "get_messages", "get_status")
def test_a_message_is_edited_and_a_thread_cut_short(threads, client, http, spoken):
    second = spoken["messages"][2]
    result = threads.send_message(spoken["id"], content="2", edit_message_id=second["id"])
    assert result.content == "You said: 2"
    assert contents(threads, spoken["id"]) == ["one", "You said: one", "2", "You said: 2"]
    assert threads.send_message(spoken["id"], content="0", truncate_at_message_index=0).content == "You said: 0"
    assert contents(threads, spoken["id"]) == ["0", "You said: 0"]
    # Nothing of it is destroyed.
    everything = http.get(f"/threads/{spoken['id']}", params={"includeSuperseded": "true"}).json()["thread"]["messages"]
    assert [message["content"] for message in everything if message.get("supersededAt")] == [
        "one", "You said: one", "two", "You said: two", "2", "You said: 2"
    ]
    status = threads.get_status(spoken["id"])
    assert (status["threadId"], status["status"]) == (spoken["id"], "completed") and status["completedAt"]
    with pytest.raises(ApiClientError) as wrong:
        threads.send_message(spoken["id"], content="x", edit_message_id=second["id"])
    assert wrong.value.status in (400, 404)


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@covers("send_message", "get_messages")
def test_attachments_come_as_url_base64_and_path(threads, client, installation, thread):
    attachments = [
        {"filename": "dot.png", "mimeType": "image/png", "type": "image", "url": f"data:image/png;base64,{PIXEL}"},
        {"filename": "note.txt", "mimeType": "text/plain", "data": base64.b64encode(b"by base64").decode()},
        {"filename": "far.pdf", "mimeType": "application/pdf", "url": "https://example.com/far.pdf"},
    ]
    result = threads.send_message(thread["id"], content="See what came", attachments=attachments)
    assert result.content == "You said: See what came"
    kept = threads.get_messages(thread["id"])["data"][0]["attachments"]
    assert [attachment["filename"] for attachment in kept] == ["dot.png", "note.txt", "far.pdf"]
    asked = [line for line in installation.requests.read_text().splitlines() if "See what came" in line][-1]
    assert PIXEL in asked and "note.txt" in asked and "https://example.com/far.pdf" in asked
    # What was sent is in the workspace, and can be named by its path from then on.
    path = kept[1]["workspacePath"]
    again = threads.send_message(thread["id"], content="And this", attachments=[{"workspacePath": path}])
    assert again.content == "You said: And this"
    assert threads.get_messages(thread["id"])["data"][2]["attachments"][0]["workspacePath"] == path
    for wrong in ({"filename": "x"}, {"workspacePath": "not/there.txt"}, {"data": "!"}, {"url": "ftp://x/y"}):
        with pytest.raises(ApiClientError) as refused:
            threads.send_message(thread["id"], content="x", attachments=[wrong])
        assert refused.value.status == 400 and "attachments[0]" in refused.value.message


@covers("get_logs", "get_events", "get_actions", "stream_events", "get_runs", "get")
def test_a_secret_is_used_and_never_seen(threads, client, http, installation, thread):
    value = "canary-7d1f03ab55"
    body = {"content": "Show the environment", "secrets": [{"key": "TOKEN", "value": value}], "stream": False}
    body["envVars"] = {"GREETING": "hello", "PER_TURN": "now"}
    http.post(f"/threads/{thread['id']}/messages", json=body).raise_for_status()
    settled(threads, thread["id"])
    assert contents(threads, thread["id"])[-1].strip() == "hello/[redacted]/now", "the command had it"
    told = [threads.get_logs(thread["id"]), threads.get_events(thread["id"]), threads.get_actions(thread["id"])]
    told += [list(threads.stream_events(thread["id"])), threads.get(thread["id"]), threads.get_runs(thread["id"])]
    told += [installation.requests.read_text(), installation.log()]
    assert value not in str(told)


@covers("send_message")
def test_an_answer_has_the_shape_that_was_asked_for(threads, client, http, thread):
    schema = {"type": "object", "properties": {"said": {"type": "string"}}, "required": ["said"]}
    send = functools.partial(http.post, f"/threads/{thread['id']}/messages")
    send(json={"content": "Answer in JSON", "responseSchema": schema, "stream": False}).raise_for_status()
    settled(threads, thread["id"])
    assert contents(threads, thread["id"])[-1] == '{"said": "yes"}'
    # A model that does not hold to it fails the run, after it was told so.
    send(json={"content": "Only words", "responseSchema": schema, "stream": False}).raise_for_status()
    assert settled(threads, thread["id"])["status"] == "failed"
    assert threads.send_message(thread["id"], content="And on").content == "You said: And on"


@covers("get_runs", "cancel", "send_message")
def test_a_busy_thread_queues_interrupts_and_steers(threads, client, http, waiting):
    thread, run = waiting
    with pytest.raises(ApiClientError) as busy:
        threads.send_message(thread, content="Me too")
    assert busy.value.status == 409
    send = functools.partial(http.post, f"/threads/{thread}/messages")
    queued = send(json={"content": "Queued", "mode": "queue", "stream": False}).raise_for_status().json()
    assert (queued["queued"], queued["run"]["status"]) == (True, "queued")
    steered = send(json={"content": "A hint", "mode": "steer", "stream": False}).raise_for_status().json()
    assert steered["run"]["id"] == run
    first = send(json={"content": "First of all", "mode": "interrupt", "stream": False}).raise_for_status().json()
    eventually("all have had their turn", lambda: all(r["completedAt"] for r in threads.get_runs(thread)["data"]), 60)
    runs = {r["id"]: r for r in threads.get_runs(thread, order="asc")["data"]}
    assert (runs[run]["status"], runs[run]["stopReason"]) == ("cancelled", "interrupted")
    assert runs[first["run"]["id"]]["status"] == runs[queued["run"]["id"]]["status"] == "completed"
    said = contents(threads, thread)
    assert said.index("First of all") < said.index("Queued") and "A hint" in said
    with pytest.raises(ApiClientError) as nothing:
        threads.cancel(thread)
    assert nothing.value.status == 400


@covers("steer_run", "control_run", "cancel", "get_runs")
def test_a_run_is_steered_and_controlled(threads, client, waiting):
    thread, run = waiting
    noted = threads.steer_run(thread, run, content="By the way", mode="fyi")
    assert (noted["accepted"], noted["run"]["id"], noted["steering"]["content"]) == (True, run, "By the way")
    assert threads.control_run(thread, run, action="message", content="Hurry")["steering"]["mode"] == "checkpoint"
    paused = threads.control_run(thread, run, action="pause")
    assert (paused["accepted"], paused["receipt"]["action"]) == (True, "pause")
    assert threads.control_run(thread, run, action="resume")["run"]["status"] == "running"
    assert threads.cancel(thread) is None
    eventually("it stops", lambda: threads.get_runs(thread, order="asc")["data"][0]["status"] == "cancelled")
    # What is to be followed and was not read is worked on next.
    eventually("the note is worked on", lambda: any(said.startswith("You said:") and "Hurry" in said for said in contents(threads, thread)))
    assert "By the way" in contents(threads, thread)
    with pytest.raises(ApiClientError) as over:
        threads.steer_run(thread, run, content="Too late")
    assert over.value.status == 400


@covers("classify_activity", "send_activity_message")
def test_a_text_goes_where_it_belongs(threads, client, waiting, environment):
    thread, run = waiting
    classified = threads.classify_activity(thread, content="Faster!", mode="checkpoint")
    assert (classified["decision"]["route"], classified["targetRunId"]) == ("worker_checkpoint", run)
    sent = threads.send_activity_message(thread, content="Faster!", mode="checkpoint")
    assert (sent["accepted"], sent["run"]["id"], sent["executionStarted"]) == (True, run, False)
    assert sent["routeDecision"] == classified["decision"]
    idle = threads.create(environment["id"])["id"]
    assert threads.classify_activity(idle, content="Begin")["decision"]["route"] == "none"
    begun = threads.send_activity_message(idle, content="Begin")
    assert (begun["executionStarted"], begun["message"]["content"]) == (True, "Begin")
    settled(threads, idle)
    assert contents(threads, idle) == ["Begin", "You said: Begin"]


@covers("list_permission_requests", "approve_permission_request", "deny_permission_request", "decide_permission_request")
def test_calls_are_allowed_and_denied(threads, client, environment):
    rules = {"rules": {"ask": ["Bash(python3 *)"]}}
    agent = client.agents.create(name="Asks", model="claude-sonnet-4-5", permission_set=rules)
    decisions = [
        (lambda id, request: threads.approve_permission_request(id, request), "allow", "hello from the agent"),
        (lambda id, request: threads.deny_permission_request(id, request, reason="Not now"), "deny", "Not now"),
        (lambda id, request: threads.decide_permission_request(id, request, decision="deny", reason="Never"), "deny", "Never"),
    ]
    for decide, decision, answer in decisions:
        id = threads.create(environment["id"], agent_id=agent["id"], content="Write hello.py")["id"]
        [request] = eventually("a call waits", lambda: threads.list_permission_requests(id))
        assert (request["threadId"], request["toolName"]) == (id, "Bash") and "python3" in request["input"]
        decided = decide(id, request["requestId"])
        assert (decided["ok"], decided["decision"], decided["requestId"]) == (True, decision, request["requestId"])
        eventually("it goes on", lambda: threads.get_status(id)["status"] == "completed")
        assert answer in contents(threads, id)[-1]
        assert threads.list_permission_requests(id) == []


@covers("get_feedback", "set_feedback", "report_feedback", "report_issue")
def test_feedback(threads, client, thread):
    assert threads.set_feedback(thread["id"], "up")["userRating"] == "up"
    report = threads.report_issue(thread["id"], report_type="bug", message="It hung", metadata={"n": 1})
    assert (report["reportType"], report["message"], report["metadata"]) == ("bug", "It hung", {"n": 1})
    assert threads.report_feedback(thread["id"], report_type="general", message="Nice")["message"] == "Nice"
    summary = threads.get_feedback(thread["id"])
    assert (summary["upCount"], summary["downCount"], summary["reportCount"]) == (1, 0, 2)


@covers("search", "generate_title", "copy", "copy_with_response", "fork_from_message")
def test_threads_are_named_found_and_copied(threads, client, spoken, environment):
    named = threads.generate_title(spoken["id"], message="Rebuild the lighthouse", force=True)
    assert (named["title"], named["generated"]) == ("You said: Rebuild the lighthouse", True)
    found = threads.search("lighthouse", environment_id=environment["id"])
    assert [result["thread"]["id"] for result in found["results"]] == [spoken["id"]] and found["total"] == 1
    assert "<mark>lighthouse</mark>" in found["results"][0]["highlights"][0]
    copy = threads.copy(spoken["id"], title="Second lighthouse")
    assert (copy["title"], copy["status"]) == ("Second lighthouse", "completed")
    assert contents(threads, copy["id"]) == contents(threads, spoken["id"])
    cut = threads.copy_with_response(spoken["id"], truncate_at_message_index=2)
    assert (cut["messagesCopied"], contents(threads, cut["thread"]["id"])) == (2, ["one", "You said: one"])
    fork = threads.fork_from_message(spoken["id"], truncate_at_message_index=2)
    assert contents(threads, fork["thread"]["id"]) == ["one", "You said: one"]
    assert threads.send_message(fork["thread"]["id"], content="three").content == "You said: three"


@covers("get_events", "stream_events", "get_timeline", "get_runs", "get_logs", "append_logs")
def test_what_happened_is_told(threads, client, spoken):
    page = threads.get_events(spoken["id"], limit=1000)
    numbers = [event["sequence"] for event in page["data"]]
    assert numbers == list(range(1, len(numbers) + 1)) and not page["has_more"]
    assert [event["type"] for event in page["data"]].count("response.completed") == 2
    streamed = [event for event in threads.stream_events(spoken["id"], after=str(numbers[2])) if "sequence" in event]
    assert [event["sequence"] for event in streamed] == numbers[3:]
    timeline = threads.get_timeline(spoken["id"])["data"]
    told = [item["message"]["content"] for item in timeline if item["type"] == "message"]
    assert told == ["one", "You said: one", "two", "You said: two"]
    runs = threads.get_runs(spoken["id"], order="asc", kind="message")["data"]
    assert [(run["kind"], run["status"], run["turns"]) for run in runs] == [("message", "completed", 1)] * 2
    assert runs[0]["id"] in {item["run"]["id"] for item in timeline if item["type"] == "run"}
    assert threads.append_logs(spoken["id"], logs=[{"message": "Seen elsewhere"}])["logsAdded"] == 1
    logs = threads.get_logs(spoken["id"])
    assert [line["message"] for line in logs if line["isUserMessage"]] == ["one", "two"]
    assert logs[-1]["message"] == "Seen elsewhere"


@covers("get_diffs", "get_actions", "get_activity_groups", "get_trace_clusters")
def test_what_was_done_is_told(threads, client, thread):
    threads.send_message(thread["id"], content="Write hello.py")
    [diff] = threads.get_diffs(thread["id"])
    assert (diff["path"], diff["status"], diff["additions"]) == ("/workspace/src/hello.py", "added", 1)
    actions = threads.get_actions(thread["id"])["data"]
    assert [(action["toolName"], action["status"]) for action in actions] == [("Write", "completed"), ("Bash", "completed")]
    [group] = threads.get_activity_groups(thread["id"])["data"]
    assert group["actionIds"] == [action["id"] for action in actions] and group["status"] == "sealed"
    clusters = threads.get_trace_clusters(thread["id"])["data"]
    assert {cluster["toolName"]: cluster["count"] for cluster in clusters} == {"Write": 1, "Bash": 1}


@covers("get_context_estimate", "get_context_details", "run_context_action", "ask_btw", "get_runs")
def test_the_context(threads, client, spoken):
    estimate = threads.get_context_estimate(spoken["id"])["context"]
    assert (estimate["threadId"], estimate["source"], estimate["messageCount"]) == (spoken["id"], "usage", 4)
    parts = threads.get_context_details(spoken["id"])["context"]["categories"]
    assert sum(part["tokens"] for part in parts) == estimate["maxTokens"]
    events = list(threads.ask_btw(spoken["id"], "What is this about?"))
    assert [e for e in events if e["type"] == "response.completed"][0]["response"]["content"] == "An answer from the side."
    fork = threads.run_context_action(spoken["id"], action="fork", title="Fork")["action"]["thread"]
    assert (fork["title"], contents(threads, fork["id"])) == ("Fork", contents(threads, spoken["id"]))
    assert threads.run_context_action(spoken["id"], action="compact")["action"]["type"] == "compact"
    [compaction] = threads.get_runs(spoken["id"], kind="compact")["data"]
    assert (compaction["kind"], compaction["status"]) == ("compact", "completed")
    assert threads.run_context_action(fork["id"], action="clear")["action"]["type"] == "clear"
    assert threads.get_context_estimate(fork["id"])["context"]["usedTokens"] < estimate["usedTokens"]
    assert contents(threads, fork["id"]) == contents(threads, spoken["id"]), "what people see stays"


@covers("cancel", "get_status", "stream_events")
def test_a_cancelled_run_stops_and_says_why(threads, client, waiting):
    thread, _ = waiting
    seen = []
    reader = threading.Thread(target=lambda: seen.extend(threads.stream_events(thread)), daemon=True)
    reader.start()
    assert threads.cancel(thread) is None
    reader.join(30)
    assert seen[-1]["type"] == "stream.completed"
    assert (seen[-1]["run"]["status"], seen[-1]["run"]["stopReason"]) == ("cancelled", "cancelled")
    assert threads.get_status(thread)["status"] == "cancelled"
    assert threads.send_message(thread, content="On we go").content == "You said: On we go"


#: What is in steps and in research has its tests in `test_steps.py` and `test_research.py`.
@covers(
    "list_steps", "list_step_files", "get_step_diff", "get_step_file", "download_step_file", "fork_from_step",
    "revert_to_step", "get_file_history", "list_research", "get_research", "delete_research",
)  # fmt: skip
def test_of_a_thread_that_is_not_there_nothing_is_found(threads, client):
    none = "thread_0198c0f2a7d07d1c9f7b1f5b5b0c2a11"
    for call in (
        lambda: threads.list_steps(none),
        lambda: threads.list_step_files(none, "step_1"),
        lambda: threads.get_step_diff(none, "step_1"),
        lambda: threads.get_step_file(none, "step_1", path="a"),
        lambda: threads.download_step_file(none, "step_1", path="a"),
        lambda: threads.fork_from_step(none, "step_1"),
        lambda: threads.revert_to_step(none, "step_1"),
        lambda: threads.get_file_history(none, path="a"),
        lambda: threads.list_research(none),
        lambda: threads.get_research(none, none.replace("thread", "research")),
        lambda: threads.delete_research(none, none.replace("thread", "research")),
    ):
        with pytest.raises(ApiClientError) as missing:
            call()
        assert missing.value.status == 404


def test_every_method_of_the_sdk_has_its_test(client):
    methods = {name for name, _ in inspect.getmembers(type(client.threads), inspect.isfunction) if not name.startswith("_")}
    assert len(methods) >= 50, "the SDK is the one that was meant"
    assert methods - set(COVERED) == set(), "these have no test"
    assert set(COVERED) - methods == set(), "these are no methods of the SDK"
