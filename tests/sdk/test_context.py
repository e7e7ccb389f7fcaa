"""`client.threads`: how full the model's window is, making room in it, and questions beside the run."""

import pytest
from computer_agents import ApiClientError

from conftest import eventually


def model_requests(installation, marker):
    """What the model was asked, of those requests that hold a text."""
    return [line for line in installation.requests.read_text().splitlines() if marker in line]


def test_a_context_is_told_with_its_parts(client, thread):
    before = client.threads.get_context_estimate(thread["id"])["context"]
    assert (before["threadId"], before["usedTokens"], before["exact"]) == (thread["id"], 0, False)
    client.threads.send_message(thread["id"], content="Apples, if you please")

    context = client.threads.get_context_estimate(thread["id"])["context"]
    assert (context["source"], context["exact"], context["messageCount"]) == ("usage", True, 2)
    assert context["usedTokens"] > 100 and context["maxTokens"] >= 200_000
    assert context["usedTokens"] + context["remainingTokens"] == context["maxTokens"]
    assert 0 < context["remainingRatio"] < 1

    details = client.threads.get_context_details(thread["id"])
    parts = {part["key"]: part for part in details["context"]["categories"]}
    assert set(parts) == {"system_prompt", "messages", "other", "free_space", "autocompact_buffer"}
    assert sum(part["tokens"] for part in parts.values()) == context["maxTokens"]
    assert parts["system_prompt"]["tokens"] > 50 and parts["autocompact_buffer"]["tokens"] > 10_000
    assert details["availableActions"] == {"compact": True, "clear": True, "btw": True, "fork": True}
    assert details["nativeError"] is None


def test_a_compacted_thread_goes_on_from_its_summary(client, installation, thread):
    client.threads.send_message(thread["id"], content="Apples, if you please")
    done = client.threads.run_context_action(thread["id"], action="compact", prompt="mind the pears")["action"]
    assert (done["type"], done["threadId"], done["thread"]["status"]) == ("compact", thread["id"], "completed")
    assert model_requests(installation, "mind the pears")
    assert client.threads.get_context_estimate(thread["id"])["context"]["source"] == "estimate"

    result = client.threads.send_message(thread["id"], content="What about plums?")
    assert result.content == "You said: What about plums?"
    asked = model_requests(installation, "What about plums?")[-1]
    assert "They spoke of apples." in asked and "You said: Apples" not in asked
    messages = client.threads.get_messages(thread["id"])["data"]
    assert [message["content"] for message in messages] == [
        "Apples, if you please",
        "You said: Apples, if you please",
        "What about plums?",
        "You said: What about plums?",
    ]
    told = [event for event in client.threads.stream_events(thread["id"]) if event.get("type") == "context.compacted"]
    assert len(told) == 1 and told[0]["context"]["trigger"] == "manual" and told[0]["context"]["preTokens"] > 100


def test_a_cleared_thread_starts_afresh(client, installation, thread):
    client.threads.send_message(thread["id"], content="Cherries for the bin")
    done = client.threads.run_context_action(thread["id"], action="clear")["action"]
    assert done["type"] == "clear"
    result = client.threads.send_message(thread["id"], content="Start over, then")
    assert result.content == "You said: Start over, then"
    assert "Cherries" not in model_requests(installation, "Start over, then")[-1]
    assert client.threads.get(thread["id"])["messageCount"] == 4


def test_a_forked_thread_goes_another_way(client, thread):
    client.threads.send_message(thread["id"], content="Apples, if you please")
    done = client.threads.run_context_action(thread["id"], action="fork", title="Pears")["action"]
    fork = done["thread"]
    assert (done["type"], fork["title"], fork["messageCount"]) == ("fork", "Pears", 2) and fork["id"] != thread["id"]
    used = [client.threads.get_context_estimate(id)["context"]["usedTokens"] for id in (thread["id"], fork["id"])]
    assert used[0] == used[1] > 0
    assert client.threads.send_message(fork["id"], content="Pears").content == "You said: Pears"
    assert client.threads.get(thread["id"])["messageCount"] == 2


def test_a_side_question_is_answered_while_the_run_goes_on(client, http, thread):
    running = client.threads.send_message(thread["id"], content="Apples, if you please")
    assert running.run["status"] == "completed"
    http.post(f"/threads/{thread['id']}/messages", json={"content": "Wait for me", "stream": False}).raise_for_status()
    eventually("it runs", lambda: client.threads.get_status(thread["id"])["status"] == "running")

    events = list(client.threads.ask_btw(thread["id"], "What is going on?"))
    assert [event["type"] for event in events][-2:] == ["response.completed", "stream.completed"]
    assert events[-2]["response"]["content"] == "An answer from the side."
    assert "".join(event["delta"]["text"] for event in events if event["type"] == "response.content_part.delta")
    asked = client.threads.run_context_action(thread["id"], action="btw", prompt="And now?")["action"]
    assert (asked["type"], asked["responseText"]) == ("btw", "An answer from the side.")
    with pytest.raises(ApiClientError) as busy:
        client.threads.run_context_action(thread["id"], action="compact")
    assert busy.value.status == 409

    client.threads.cancel(thread["id"])
    eventually("it stops", lambda: client.threads.get_status(thread["id"])["status"] == "cancelled")
    messages = client.threads.get_messages(thread["id"])["data"]
    assert not any("side" in message["content"] or "going on" in message["content"] for message in messages)


def test_a_thread_without_a_conversation_has_nothing_to_act_on(client, thread):
    for action in ("compact", "clear"):
        with pytest.raises(ApiClientError) as nothing:
            client.threads.run_context_action(thread["id"], action=action)
        assert nothing.value.status == 400
