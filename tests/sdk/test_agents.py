"""`client.agents`: stored instructions and a model."""

import pytest
from computer_agents import ApiClientError

FIELDS = {
    "description": "reviews",
    "instructions": "Be brief.",
    "binary": "Claude Code CLI",
    "execution_engine": "native-claude",
    "reasoning_effort": "medium",
    "enabled_skills": ["web_search", "deep_research"],
    "deep_research_model": "gemini-3-pro-preview",
    "permission_set": {"version": 1, "defaultAccess": "full_access"},
    "voice_mode": "web",
    "voice_provider": "xai",
    "voice_model": "m",
    "voice_id": "v",
    "voice_instructions": "softly",
    "voice_language_hint": "de",
    "voice_turn_detection": {"type": "server"},
    "voice_pronunciation_replacements": {"SQL": "sequel"},
    "metadata": {"team": {"name": "a"}},
}


def camel(name):
    head, *tail = name.split("_")
    return head + "".join(part.title() for part in tail)


def test_an_agent_has_every_field_it_was_given(client):
    made = client.agents.create("Reviewer", "claude-sonnet-4-5", is_system=False, **FIELDS)
    read = client.agents.get(made["id"])
    for agent in (made, read):
        assert {name: agent[camel(name)] for name in FIELDS} == FIELDS
        assert (agent["name"], agent["model"]) == ("Reviewer", "claude-sonnet-4-5")
        assert agent["isActive"] is True and agent["isDefault"] is False and agent["createdAt"]
    changed = client.agents.update(
        made["id"], name="Critic", model="claude-haiku-4-5", instructions="Updated.", description=None, metadata=None,
        reasoning_effort="low", enabled_skills=[], voice_mode="off",
    )
    assert (changed["name"], changed["model"], changed["instructions"]) == ("Critic", "claude-haiku-4-5", "Updated.")
    assert not changed["description"] and changed["metadata"] is None
    assert (changed["reasoningEffort"], changed["enabledSkills"], changed["voiceMode"]) == ("low", [], "off")
    assert changed["voiceId"] == "v", "what is not named stays"
    assert made["id"] in [agent["id"] for agent in client.agents.list(view="full")]
    assert len(client.agents.list(limit=1)) == 1
    assert client.agents.delete(made["id"]) is None
    with pytest.raises(ApiClientError) as gone:
        client.agents.get(made["id"])
    assert gone.value.status == 404
    assert made["id"] not in [agent["id"] for agent in client.agents.list()]


def test_an_agent_may_have_an_id_of_ones_own_and_any_model(client):
    made = client.agents.create("External", "external:openai:gpt-4o%2Fmini", agent_id="my-agent_1", is_default=True)
    assert (made["id"], made["model"], made["isDefault"]) == ("my-agent_1", "external:openai:gpt-4o%2Fmini", True)
    with pytest.raises(ApiClientError) as taken:
        client.agents.create("Again", "m", agent_id="my-agent_1")
    assert taken.value.status == 409
    client.agents.delete("my-agent_1", hard=True)


def test_models_name_at_least_one_that_can_be_used(client):
    catalog = client.agents.list_models()
    assert isinstance(catalog["tier"], str)
    usable = [model for model in catalog["models"] if not model.get("locked")]
    assert usable and all(isinstance(model["id"], str) for model in usable)


def test_wrong_agents_are_told(client):
    for name, model in (("", "m"), ("x" * 256, "m"), ("x", "")):
        with pytest.raises(ApiClientError) as wrong:
            client.agents.create(name, model)
        assert (wrong.value.status, wrong.value.code) == (400, "VALIDATION_FAILED")
        assert wrong.value.details
    with pytest.raises(ApiClientError) as wrong:
        client.agents.create("x", "m", reasoning_effort="extreme")
    assert wrong.value.status == 400
    for call in (client.agents.get, client.agents.delete, lambda id: client.agents.update(id, name="x")):
        with pytest.raises(ApiClientError) as missing:
            call("agent_nonexistent_12345")
        assert missing.value.status == 404
