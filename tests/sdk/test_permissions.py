"""Calls that wait for somebody to allow them."""

import threading

import pytest
from computer_agents import ApiClientError

from conftest import eventually

ASKING = {"rules": {"ask": ["Bash(python3 *)"]}}


@pytest.fixture
def careful(client, environment):
    """A thread whose agent asks before it runs Python, and its agent."""
    agent = client.agents.create(name="Careful", model="claude-sonnet-4-5", permission_set=ASKING)
    assert agent["permissionSet"] == ASKING
    return client.threads.create(environment["id"], agent_id=agent["id"])


def waiting(client, thread):
    return eventually("a call waits", lambda: client.threads.list_permission_requests(thread["id"]))


def begin(client, thread):
    """Sends the message in a thread of its own; gives what will hold the result."""
    result = {}

    def send():
        events = []
        result["answer"] = client.threads.send_message(thread["id"], content="Write hello.py", on_event=events.append)
        result["events"] = [event["type"] for event in events if "type" in event]

    worker = threading.Thread(target=send, daemon=True)
    worker.start()
    result["join"] = lambda: (worker.join(60), result["answer"])[1]
    return result


def test_an_allowed_call_is_made(client, careful):
    result = begin(client, careful)
    [request] = waiting(client, careful)
    assert (request["threadId"], request["toolName"]) == (careful["id"], "Bash")
    assert isinstance(request["input"], str) and "python3 src/hello.py" in request["input"]
    assert request["currentMode"] and request["requiredMode"] and request["createdAt"] and request["reason"]
    eventually("the run waits", lambda: client.threads.get_status(careful["id"])["status"] == "permission_asked")
    with pytest.raises(ApiClientError) as busy:
        client.threads.send_message(careful["id"], content="More")
    assert busy.value.status == 409
    decided = client.threads.approve_permission_request(careful["id"], request["requestId"])
    assert decided == {
        "ok": True, "requestId": request["requestId"], "decision": "allow", "active": True, "message": None
    }
    assert "hello from the agent" in result["join"]().content
    assert {"permission.requested", "permission.decided"} <= set(result["events"])
    assert client.threads.list_permission_requests(careful["id"]) == []
    late = client.threads.deny_permission_request(careful["id"], request["requestId"], reason="too late")
    assert (late["ok"], late["decision"], late["active"]) == (False, "allow", False)


def test_a_denied_call_is_not_made_and_the_model_reads_why(client, careful):
    result = begin(client, careful)
    [request] = waiting(client, careful)
    client.threads.decide_permission_request(
        careful["id"], request["requestId"], decision="deny", reason="No Python today"
    )
    assert "No Python today" in result["join"]().content


def test_a_cancelled_thread_waits_for_nothing(client, careful):
    begin(client, careful)
    [request] = waiting(client, careful)
    client.threads.cancel(careful["id"])
    eventually("it is over", lambda: client.threads.get_status(careful["id"])["status"] == "cancelled")
    assert client.threads.list_permission_requests(careful["id"]) == []
    late = client.threads.approve_permission_request(careful["id"], request["requestId"])
    assert (late["ok"], late["decision"], late["active"]) == (False, "deny", False)


def test_a_request_that_is_not_there_is_404(client, thread):
    for call in (
        lambda: client.threads.list_permission_requests("thread_nothing"),
        lambda: client.threads.approve_permission_request(thread["id"], "perm_nothing"),
    ):
        with pytest.raises(ApiClientError) as missing:
            call()
        assert missing.value.status == 404
