"""Steps of a thread, going back to them, and threads made of others with their files, method by method."""

import inspect
import re

import pytest
from computer_agents import ApiClientError

BINARY = bytes(range(256))

#: What this file is about, of all that the SDK has for threads.
OURS = re.compile("step|file_history|copy|fork_from")


@pytest.fixture
def worked(client, environment):
    """A thread with two messages, and three steps by shell and by tool: `src/hello.py`, what it said, and a change of both."""
    thread = client.threads.create(environment["id"], title="Work")
    client.threads.send_message(thread["id"], content="Write hello.py")
    command = "python3 -c 'open(\"bin\", \"wb\").write(bytes(range(256)))'; echo more >> src/said.txt; rm src/hello.py"
    client.threads.send_message(thread["id"], content=f"{command} #shell")
    steps = client.threads.list_steps(thread["id"])
    assert [step["sequence"] for step in steps] == [1, 2, 3]
    return {"thread": thread["id"], "environment": environment["id"], "steps": [step["id"] for step in steps]}


def tree(client, environment):
    """All files of an environment with what they hold."""
    files = [file["path"] for file in client.files.list_files(environment) if file["type"] == "file"]
    return {path: client.files.download_file(environment, path) for path in files}


def contents(client, thread):
    return [message["content"] for message in client.threads.get_messages(thread)["data"]]


def refused(status, call, *arguments, **more):
    with pytest.raises(ApiClientError) as wrong:
        call(*arguments, **more)
    assert wrong.value.status == status, wrong.value
    return wrong.value


@pytest.fixture
def made(client):
    """Environments that a test had made, removed behind it."""
    ids = []
    yield ids
    for id in ids:
        client.environments.delete(id, hard=True)


def test_list_steps(client, worked):
    steps = client.threads.list_steps(worked["thread"])
    assert [step["title"] for step in steps[:2]] == ["Write: src/hello.py", "Bash: python3 src/hello.py | tee src/said.txt"]
    assert [step["metadata"]["changedPaths"] for step in steps] == [
        ["src/hello.py"], ["src/said.txt"], ["bin", "src/hello.py", "src/said.txt"]
    ]  # fmt: skip
    messages = client.threads.get_messages(worked["thread"])["data"]
    assert [step["sourceMessageId"] for step in steps] == [messages[0]["id"]] * 2 + [messages[2]["id"]]
    assert {step["environmentId"] for step in steps} == {worked["environment"]}
    assert steps[1]["snapshotBeforeId"] == steps[0]["snapshotAfterId"]
    [one] = client.threads.list_steps(worked["thread"], limit=1, offset=2, compact=True)
    assert (one["id"], one["metadata"], one["stepKind"]) == (worked["steps"][2], None, "file_change")


def test_list_step_files(client, worked):
    files = client.threads.list_step_files(worked["thread"], worked["steps"][1])
    assert [(file["path"], file["type"]) for file in files] == [
        ("src", "directory"), ("src/hello.py", "file"), ("src/said.txt", "file")
    ]  # fmt: skip
    [file] = client.threads.list_step_files(worked["thread"], worked["steps"][2], prefix="bin")
    assert (file["name"], file["size"]) == ("bin", 256)


def test_get_step_diff(client, worked):
    diff = client.threads.get_step_diff(worked["thread"], worked["steps"][2], path="src")
    assert diff["changedPaths"] == ["src/hello.py", "src/said.txt"] and (diff["additions"], diff["deletions"]) == (1, 1)
    assert "+more\n" in diff["diff"] and "-print('hello from the agent')\n" in diff["diff"]
    assert diff["sequence"] == 3 and diff["snapshotBeforeId"] != diff["snapshotAfterId"]


def test_get_step_file(client, worked):
    file = client.threads.get_step_file(worked["thread"], worked["steps"][0], path="src/hello.py")
    assert (file["content"], file["stepId"]) == ("print('hello from the agent')\n", worked["steps"][0])
    refused(404, client.threads.get_step_file, worked["thread"], worked["steps"][2], path="src/hello.py")


def test_download_step_file(client, worked):
    assert client.threads.download_step_file(worked["thread"], worked["steps"][2], path="bin") == BINARY


def test_get_file_history(client, worked):
    history = client.threads.get_file_history(worked["thread"], path="src/hello.py")
    assert [(step["sequence"], step["changeKind"]) for step in history["data"]] == [(3, "deleted"), (1, "created")]
    assert (history["total"], history["hasMore"]) == (2, False)
    page = client.threads.get_file_history(worked["thread"], path="src/hello.py", limit=1, offset=1)
    assert [step["stepId"] for step in page["data"]] == [worked["steps"][0]]


def test_revert_to_step(client, worked):
    thread, steps, environment = worked["thread"], worked["steps"], worked["environment"]
    last = tree(client, environment)
    client.files.upload_file(environment, "mine", "mine")
    reverted = client.threads.revert_to_step(thread, steps[1], revertedChangeStepId=steps[2])
    assert tree(client, environment) == {
        "src/hello.py": b"print('hello from the agent')\n", "src/said.txt": b"hello from the agent\n"
    }  # fmt: skip
    assert (reverted["revertedToStepId"], reverted["revertedChangeStepId"]) == (steps[1], steps[2])
    assert (reverted["environmentId"], reverted["thread"]["id"]) == (environment, thread)
    new = client.threads.list_steps(thread)[-1]
    assert (new["id"], new["eventType"], new["snapshotAfterId"]) == (
        reverted["revertStepId"], "revert", reverted["snapshotId"]
    )  # fmt: skip
    # Nothing is lost, not even what came from elsewhere.
    client.threads.revert_to_step(thread, steps[2], historyActionType="reapply", revertedChangeStepId=steps[2])
    assert tree(client, environment) == last
    client.threads.revert_to_step(thread, new["id"], revertedChangeStepId=new["id"], revertedFilePath="mine")
    assert tree(client, environment) == last | {"mine": b"mine"}
    client.threads.revert_to_step(thread, steps[0], revertedFilePath="src/hello.py", revertedFileName="hello.py")
    assert tree(client, environment) == last | {"mine": b"mine", "src/hello.py": b"print('hello from the agent')\n"}
    # The agent works with what was brought back.
    client.threads.send_message(thread, content="python3 src/hello.py > src/again.txt #shell")
    assert client.files.get_file(environment, "src/again.txt") == "hello from the agent\n"
    refused(400, client.threads.revert_to_step, thread, steps[0], historyActionType="x")


def test_fork_from_step(client, worked, made):
    thread, steps = worked["thread"], worked["steps"]
    fork = client.threads.fork_from_step(thread, steps[1], mode="historical", title="Then", environmentName="There")
    made.append(fork["environmentId"])
    assert (fork["forkMode"], fork["messagesCopied"], fork["thread"]["title"]) == ("historical", 2, "Then")
    assert contents(client, fork["thread"]["id"]) == contents(client, thread)[:2]
    assert client.environments.get(fork["environmentId"])["name"] == "There"
    assert set(tree(client, fork["environmentId"])) == {"src/hello.py", "src/said.txt"}
    # It goes on from there, and the original does not notice.
    client.threads.send_message(fork["thread"]["id"], content="cat src/said.txt > copied.txt #shell")
    assert client.files.get_file(fork["environmentId"], "copied.txt") == "hello from the agent\n"
    assert [step["sequence"] for step in client.threads.list_steps(fork["thread"]["id"])] == [1, 2, 3]
    now = client.threads.fork_from_step(thread, steps[0], mode="latest")
    made.append(now["environmentId"])
    assert (now["forkMode"], now["messagesCopied"]) == ("latest", 4)
    assert tree(client, now["environmentId"]) == tree(client, worked["environment"])
    assert now["snapshotId"] == client.environments.list_snapshots(now["environmentId"])[0]["id"]
    assert set(tree(client, worked["environment"])) == {"bin", "src/said.txt"}


def test_copy(client, worked, made):
    copy = client.threads.copy(worked["thread"], environment_target="new_forked_environment", environment_name="Mine")
    made.append(copy["environmentId"])
    assert (copy["environmentName"], copy["messageCount"]) == ("Mine", 4)
    assert tree(client, copy["environmentId"]) == tree(client, worked["environment"])
    same = client.threads.copy(worked["thread"])
    assert same["environmentId"] == worked["environment"]
    assert len(client.threads.list_steps(same["id"])) == 3


def test_copy_with_response(client, worked, made):
    client.files.upload_file(worked["environment"], "others", "not of the thread")
    for mode, expected in (
        ("all", {"bin", "others", "src/said.txt"}),
        ("thread_only", {"bin", "src/said.txt"}),
        ("none", set()),
    ):
        copy = client.threads.copy_with_response(
            worked["thread"], environment_strategy="forked_environment", file_copy_mode=mode
        )
        made.append(copy["environmentId"])
        assert (copy["forkMode"], copy["messagesCopied"]) == ("latest", 4)
        assert set(tree(client, copy["environmentId"])) == expected
    target = made[-1]
    copy = client.threads.copy_with_response(worked["thread"], target_environment_id=target, file_copy_mode="thread_only")
    assert (copy["forkMode"], copy["environmentId"]) == ("existing_environment", target)
    assert tree(client, target)["bin"] == BINARY
    refused(400, client.threads.copy_with_response, worked["thread"], file_copy_mode="some")


def test_fork_from_message(client, worked, made):
    fork = client.threads.fork_from_message(
        worked["thread"], truncate_at_message_index=2, environment_target="new_forked_environment", title="Again"
    )
    made.append(fork["environmentId"])
    assert (fork["forkMode"], fork["messagesCopied"], fork["thread"]["title"]) == ("historical", 2, "Again")
    assert set(tree(client, fork["environmentId"])) == {"src/hello.py", "src/said.txt"}, "as before the message"
    assert client.threads.send_message(fork["thread"]["id"], content="What did it say?").content.startswith("Still there:")
    stays = client.threads.fork_from_message(worked["thread"], truncate_at_message_index=2)
    assert (stays["forkMode"], stays["environmentId"]) == ("current_environment", worked["environment"])
    refused(400, client.threads.fork_from_message, worked["thread"], truncate_at_message_index=1)


def test_every_step_method_of_the_sdk_has_its_test(client):
    methods = {name for name, _ in inspect.getmembers(type(client.threads), inspect.isfunction) if OURS.search(name)}
    assert len(methods) >= 11, "the SDK is the one that was meant"
    tested = {name.removeprefix("test_"): test for name, test in globals().items() if name.startswith("test_")}
    for method in methods:
        assert method in tested, f"{method} has no test"
        assert f"client.threads.{method}" in inspect.getsource(tested[method]), f"{method} is not called by its test"
