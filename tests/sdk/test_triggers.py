"""`client.triggers`, method by method, and what senders of events do."""

import base64
import hashlib
import hmac
import json

import httpx
import pytest
from computer_agents import ApiClientError

from conftest import eventually


def signed(trigger, payload, event="push", delivery="d1", **more):
    """Sends an event as GitHub does, to the URL that the trigger names."""
    body = json.dumps(payload).encode()
    digest = hmac.new(trigger["webhookSecret"].encode(), body, hashlib.sha256)
    headers = {
        "X-Hub-Signature-256": "sha256=" + digest.hexdigest(), "X-GitHub-Event": event, "X-GitHub-Delivery": delivery,
    }
    return httpx.post(trigger["webhookUrl"], content=body, headers=headers | more, timeout=60)


@pytest.fixture
def trigger(client, environment):
    made = client.triggers.create(
        "On push", environment["id"], "github", "push",
        {"type": "send_message", "message": "New push to {{event.payload.ref}}"}, filters={"branch": "main"},
    )
    yield made
    client.triggers.delete(made["id"])


def test_a_trigger_is_what_it_was_made_of(client, environment, trigger):
    agent = client.agents.create("Reviewer", "claude-sonnet-4-5")
    expected = {
        "name": "On push", "environmentId": environment["id"], "source": "github", "event": "push", "enabled": True,
        "filters": {"branch": "main"}, "agentId": None,
        "action": {"type": "send_message", "message": "New push to {{event.payload.ref}}"},
    }
    for seen in (trigger, client.triggers.get(trigger["id"])):
        assert {name: seen[name] for name in expected} == expected
    assert trigger["webhookSecret"].startswith("whsec_") and seen["webhookSecret"] is None
    listed = client.triggers.list(environment_id=environment["id"], source="github", enabled=True)
    assert [one["id"] for one in listed] == [trigger["id"]]
    changed = client.triggers.update(trigger["id"], name="Renamed", agent_id=agent["id"], filters=None)
    assert (changed["name"], changed["agentId"], changed["filters"]) == ("Renamed", agent["id"], {})
    assert client.triggers.disable(trigger["id"])["enabled"] is False
    assert client.triggers.enable(trigger["id"])["enabled"] is True
    client.agents.delete(agent["id"])


def test_an_event_starts_a_run_once(client, trigger):
    told = signed(trigger, {"ref": "refs/heads/main"})
    assert told.status_code == 202 and told.json()["triggered"] is True
    again = signed(trigger, {"ref": "refs/heads/main"})
    assert again.json() == told.json()
    assert signed(trigger, {"ref": "refs/heads/dev"}, delivery="d2").json()["triggered"] is False

    def done():
        executions = client.triggers.list_executions(trigger["id"], limit=10)
        return executions[0]["status"] == "completed" and executions

    executions = eventually("the run is over", done)
    assert [(e["id"], e["threadId"], e["eventPayload"]) for e in executions] == [
        (told.json()["executionId"], told.json()["threadId"], {"ref": "refs/heads/main"})
    ]
    messages = client.threads.get_messages(executions[0]["threadId"])
    assert messages["data"][0]["content"] == "New push to refs/heads/main"


def test_base64_is_a_signature_too_and_a_wrong_one_is_not(trigger):
    body = b'{"ref": "refs/heads/main"}'
    digest = hmac.new(trigger["webhookSecret"].encode(), body, hashlib.sha256).digest()
    headers = {"X-Webhook-Signature": base64.b64encode(digest).decode(), "X-Webhook-Event": "push"}
    assert httpx.post(trigger["webhookUrl"], content=body, headers=headers, timeout=60).json()["triggered"] is True
    refused = httpx.post(trigger["webhookUrl"], content=body + b" ", headers=headers, timeout=60)
    assert refused.status_code == 401 and refused.json()["error"] == "Unauthorized"


def test_a_trigger_can_be_tried(client, trigger):
    execution = client.triggers.test(trigger["id"], {"ref": "refs/heads/other"})
    assert execution["triggerId"] == trigger["id"] and execution["event"] == {"ref": "refs/heads/other"}
    assert client.triggers.test(trigger["id"])["threadId"] != execution["threadId"]
    assert len(client.triggers.list_executions(trigger["id"], limit=1)) == 1


def test_comments_are_not_written_by_the_server(client, environment):
    with pytest.raises(ApiClientError) as refused:
        client.triggers.create("c", environment["id"], "github", "pull_request", {"type": "comment_pull_request"})
    assert refused.value.status == 501
