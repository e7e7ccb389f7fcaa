"""`client.api_keys`, method by method, and what keys with fewer scopes may do."""

import pytest
from computer_agents import ApiClientError, ComputerAgentsClient


def test_a_key_is_made_used_and_revoked(client, installation):
    made = client.api_keys.create(
        name="ci", description="d", scopes=["threads:read", "agents:write"], expires_in=30, metadata={"a": 1}
    )
    assert made["key"].startswith(made["keyPrefix"]) and made["isActive"] and made["expiresAt"]
    assert made["scopes"] == ["threads:read", "agents:write"] and made["metadata"] == {"a": 1}
    listed = {key["id"]: key for key in client.api_keys.list()}
    assert listed[made["id"]] == made["apiKey"]
    assert made["key"] not in str(listed)

    with ComputerAgentsClient(api_key=made["key"], base_url=installation.url) as other:
        assert other.threads.list()["data"] is not None
        with pytest.raises(ApiClientError) as refused:
            other.threads.create()
        assert (refused.value.status, refused.value.code) == (403, "insufficient_scope")
        assert refused.value.details["requiredScope"] == "threads:write"
        with pytest.raises(ApiClientError) as refused:
            other.api_keys.list()
        assert "'keys:read'" in refused.value.message
        revoked = client.api_keys.revoke(made["id"])
        assert revoked["success"] is True and revoked["apiKey"]["isActive"] is False
        with pytest.raises(ApiClientError) as unknown:
            other.threads.list()
        assert unknown.value.status == 401
    used = client.api_keys.analytics(period="day")
    assert used["totalRequests"] > 0 and made["id"] in {key["id"] for key in used["byKey"]}


def test_a_key_is_not_shown_again(client):
    made = client.api_keys.create(name="once")
    with pytest.raises(ApiClientError) as gone:
        client.api_keys.reveal(made["id"])
    assert (gone.value.status, gone.value.code) == (410, "not_kept")
    client.api_keys.revoke(made["id"])


def test_administrators_have_twins_of_these_routes(client, http):
    made = http.post("/admin/keys", json={"name": "twin", "scopes": ["read"]}).json()
    changed = http.patch(f"/admin/keys/{made['id']}", json={"name": "changed"}).json()
    assert changed["name"] == "changed"
    assert http.get(f"/admin/keys/{made['id']}").json()["scopes"] == ["read"]
    stats = http.get(f"/admin/keys/{made['id']}/usage-stats", params={"windows": "1,30"}).json()
    assert stats["lifetime"]["totalRequests"] == 0 and set(stats["windows"]) == {"1", "30"}
    assert http.post(f"/admin/keys/{made['id']}/revoke").json()["success"] is True
    assert http.delete(f"/admin/keys/{made['id']}").json()["deleted"] is True
    assert http.get(f"/admin/keys/{made['id']}").status_code == 404
    log = http.get("/admin/audit-log", params={"route": "/admin/keys/{id}"}).json()
    assert {line["method"] for line in log["data"]} == {"PATCH", "DELETE"}
    assert all(line["subject"] == {"id": made["id"]} for line in log["data"])
