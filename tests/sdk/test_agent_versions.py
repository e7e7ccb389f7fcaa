"""Versions of agents, method by method."""

import pytest
from computer_agents import ApiClientError


@pytest.fixture
def agent(client):
    made = client.agents.create("Reviewer", "claude-sonnet-4-5", instructions="Be brief.")
    yield made
    client.agents.delete(made["id"])


def test_versions_are_listed_named_and_deleted(client, agent):
    client.agents.update(agent["id"], instructions="Be kind.")
    newest, first = client.agents.list_versions(agent["id"])
    assert (newest["versionNumber"], first["versionNumber"]) == (1, 0)
    assert client.agents.get_version(agent["id"], first["id"]) == first
    kept = client.agents.create_version(agent["id"], name="Launch", description="d")
    assert (kept["name"], kept["description"], kept["label"]) == ("Launch", "d", "v2")
    assert client.agents.update_version(agent["id"], kept["id"], name="Better")["name"] == "Better"
    assert client.agents.delete_version(agent["id"], newest["id"]) is True
    with pytest.raises(ApiClientError) as gone:
        client.agents.get_version(agent["id"], newest["id"])
    assert gone.value.status == 404


def test_versions_are_compared_and_brought_back(client, agent):
    client.agents.update(agent["id"], instructions="Be kind.", model="claude-haiku-4-5")
    newest, first = client.agents.list_versions(agent["id"])
    found = client.agents.compare_versions(agent["id"], base_version_id=first["id"], target_version_id=newest["id"])
    assert {change["field"]: (change["from"], change["to"]) for change in found["changes"]} == {
        "instructions": ("Be brief.", "Be kind."), "model": ("claude-sonnet-4-5", "claude-haiku-4-5"),
    }
    assert client.agents.restore_version(agent["id"], first["id"])["id"] == first["id"]
    assert client.agents.get(agent["id"])["instructions"] == "Be brief."
    assert len(client.agents.list_versions(agent["id"])) == 3


def test_what_is_published_is_what_runs_use(client, http, agent, environment):
    first = client.agents.list_versions(agent["id"])[0]
    assert client.agents.publish_version(agent["id"], first["id"])["isPublished"] is True
    client.agents.update(agent["id"], instructions="Be kind.")
    thread = client.threads.create(environment["id"], agent_id=agent["id"])
    client.threads.send_message(thread["id"], content="hello")
    [run] = http.get(f"/threads/{thread['id']}/runs").json()["runs"]
    assert run["agentVersionId"] == first["id"]
    assert client.agents.unpublish_version(agent["id"], first["id"])["isPublished"] is False
