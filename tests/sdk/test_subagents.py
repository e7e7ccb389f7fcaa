"""An agent that another one calls, as the SDK shows it."""


def test_an_agent_of_the_project_is_called_and_read_on_its_own(client, http, thread):
    painter = client.agents.create(name="Painter", model="claude-haiku-4-5", description="Knows colours.")
    events = []
    answer = client.threads.send_message(thread["id"], content="Ask a colleague", on_event=events.append)
    assert answer.content == "My colleague says: Blue."
    nested = [event for event in events if event.get("parentToolUseId")]
    # Whether it is the first that needs the computer is a matter of luck.
    told = [event for event in nested if not event["type"].startswith("computer.")]
    assert [event["type"] for event in told] == ["log", "log", "response.item.completed", "log"]
    assert told[2]["item"]["content"] == "Blue."
    agent = nested[0]["subagent"]
    assert (agent["name"], agent["description"]) == ("Painter", "name a colour")
    [call] = [event["item"] for event in events if event["type"] == "response.item.completed" and "tool" in event["item"]]
    assert call["name"] == "Agent" and call["tool"]["type"] == "subagent" and call["tool"]["run_id"] == agent["runId"]
    assert call["id"] == nested[0]["parentToolUseId"]

    [run] = http.get(f"/threads/{thread['id']}/runs").json()["runs"]
    [called] = http.get(f"/threads/{thread['id']}/runs", params={"parentRunId": run["id"]}).json()["runs"]
    assert (called["id"], called["agentId"], called["parentRunId"]) == (agent["runId"], painter["id"], run["id"])
    own = http.get(f"/threads/{thread['id']}/events", params={"runId": called["id"]}).json()["data"]
    assert [event["sequence"] for event in own] == [event["sequence"] for event in nested]
    # Both count for the thread; neither adds a message to it.
    assert client.threads.get(thread["id"])["totalTokens"] == run["totalTokens"] + called["totalTokens"]
    assert [message["role"] for message in client.threads.get_messages(thread["id"])["data"]] == ["user", "assistant"]
    logs = http.get(f"/threads/{thread['id']}/logs").json()
    assert logs["subagentActivity"][0]["agentName"] == "Painter"
