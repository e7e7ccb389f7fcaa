"""`client.skills`, method by method, and skills on agents and messages."""

import hashlib
import io
import zipfile

import pytest
from computer_agents import ApiClientError


def test_a_skill_is_made_listed_changed_and_deleted(client):
    made = client.skills.create(
        name="Release notes", description="Writes release notes.", markdown="# Notes\n\nRun scripts/log.sh.",
        files=[{"name": "scripts/log.sh", "content": "git log", "language": "bash"}], icon="note",
        category="development", isActive=True,
    )
    expected = {
        "name": "Release notes", "description": "Writes release notes.", "markdown": "# Notes\n\nRun scripts/log.sh.",
        "icon": "note", "category": "development", "isActive": True,
    }
    for seen in (made, client.skills.get(made["id"])):
        assert {name: seen[name] for name in expected} == expected
        assert [(file["name"], file["content"], file["language"]) for file in seen["files"]] == [
            ("scripts/log.sh", "git log", "bash")
        ]
        assert seen["createdAt"] and seen["updatedAt"] and seen["userId"]
    assert made["id"] in [skill["id"] for skill in client.skills.list()]
    assert client.skills.list(category="development", is_active=True, limit=1, offset=0)[0]["id"] == made["id"]
    assert client.skills.list(category="research") == []
    changed = client.skills.update(made["id"], description="Other.", isActive=False)
    assert (changed["description"], changed["isActive"], changed["name"]) == ("Other.", False, "Release notes")
    assert client.skills.list(is_active=False)[0]["id"] == made["id"]
    assert client.skills.delete(made["id"]) is True
    with pytest.raises(ApiClientError) as gone:
        client.skills.get(made["id"])
    assert gone.value.status == 404


def test_an_agent_has_the_skills_that_there_are(client):
    skill = client.skills.create(name="Greeter", description="Greets.", markdown="Say hello.")
    agent = client.agents.create("A", "claude-sonnet-4-5", enabled_skills=["web_search", skill["id"]])
    assert agent["enabledSkills"] == ["web_search", skill["id"]]
    with pytest.raises(ApiClientError) as refused:
        client.agents.update(agent["id"], enabled_skills=["nothing"])
    assert refused.value.status == 400 and "enabledSkills[0]" in str(refused.value)
    client.agents.delete(agent["id"])
    client.skills.delete(skill["id"])


def test_a_skill_is_installed_from_an_archive_with_a_checksum(client, http):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("notes/SKILL.md", "---\nname: notes\ndescription: Writes notes.\n---\nDo it.")
        archive.writestr("notes/a.txt", "x")
    content = packed.getvalue()

    def install(checksum):
        files = {"file": ("notes.zip", content, "application/zip")}
        return http.post("/v1/skills/install", files=files, data={"sha256": checksum})

    assert install("0" * 64).status_code == 422
    installed = install(hashlib.sha256(content).hexdigest())
    assert installed.status_code == 201, installed.text
    skill = client.skills.get(installed.json()["skill"]["id"])
    assert (skill["name"], [file["name"] for file in skill["files"]]) == ("notes", ["a.txt"])
    client.skills.delete(skill["id"])
