"""`client.projects`, method by method as far as projects go."""

import httpx
import pytest
from computer_agents import ApiClientError, ComputerAgentsClient


def test_the_keys_project_is_the_one_there_is(client):
    (project,) = client.projects.list()["data"]
    assert client.projects.get() == project
    assert client.projects.get_by_id(project["id"])["project"]["id"] == project["id"]
    changed = client.projects.update(description="d", metadata={"a": 1}, color="#fff")
    assert (changed["description"], changed["metadata"], changed["color"]) == ("d", {"a": 1}, "#fff")
    assert client.quick_setup()["project"]["id"] == project["id"]


def test_a_project_is_made_used_and_deleted(client, http, installation):
    made = client.projects.create("Website", description="d", color="#000", environment_ids=["env_1"])
    try:
        assert made["environmentIds"] == ["env_1"] and made["type"] == "cloud"
        listed = client.projects.list(q="web", limit=5)
        assert [project["id"] for project in listed["data"]] == [made["id"]] and not listed["hasMore"]
        assert client.projects.update_by_id(made["id"], name="Site")["name"] == "Site"
        key = http.post("/admin/keys", json={"name": "site", "projectId": made["id"]}).json()["key"]
        with ComputerAgentsClient(api_key=key, base_url=installation.url) as site:
            assert site.projects.get()["id"] == made["id"]
            agent = site.agents.create("a", "m")
            with pytest.raises(ApiClientError) as foreign:
                client.agents.get(agent["id"])
            assert foreign.value.status == 404
            with pytest.raises(ApiClientError) as refused:
                site.projects.create("another")
            assert refused.value.status == 403
        there = {"X-Computer-Agents-Project": made["id"]}
        assert http.get(f"/agents/{agent['id']}", headers=there).status_code == 200
        detail = client.projects.get_by_id(made["id"])
        assert detail["stats"]["threadCount"] == 0 and detail["summary"]["environmentsCount"] == 0
    finally:
        assert client.projects.delete_by_id(made["id"])["deleted"] is True
    headers = {"Authorization": f"Bearer {key}"}
    assert httpx.get(f"{installation.url}/agents", headers=headers, timeout=60).status_code == 401


def test_the_organization_is_named_as_the_sdk_does(client, installation):
    (project,) = client.projects.list()["data"]
    arguments = {"api_key": installation.key, "base_url": installation.url}
    with ComputerAgentsClient(**arguments, organization_id=project["organizationId"]) as same:
        assert same.projects.get()["id"] == project["id"]
    with ComputerAgentsClient(**arguments, organization_id="org_other") as other:
        with pytest.raises(ApiClientError) as refused:
            other.projects.list()
        assert refused.value.status == 403


def test_the_project_of_older_clients(http):
    project = http.get("/project").json()["project"]
    assert set(project["stats"]) == {"threadCount", "runCount", "totalTokens", "totalCost", "storageBytes"}
    assert http.patch("/project", json={"tags": ["x"]}).json()["project"]["tags"] == ["x"]
    assert http.post("/project/sync").json()["synced"] is True
