"""`client.environments` (also called computers): what they are made of, the default one, start and stop."""

import pytest
from computer_agents import ApiClientError

FIELDS = {
    "description": "for tests",
    "runtimes": {"python": "3.12", "nodejs": "20"},
    "packages": {"system": ["jq"], "python": ["flask==3.0"], "node": ["@types/node"]},
    "dockerfile_extensions": "RUN true",
    "environment_variables": [{"key": "A", "value": "1"}],
    "setup_scripts": ["echo ready"],
    "mcp_servers": [{"type": "http", "name": "search", "url": "https://example.com/mcp"}],
    "documentation": ["Use jq."],
    "internet_access": False,
    "compute_profile": "standard",
    "base_image": "atelier-workspace:latest",
    "gui_enabled": False,
    "office_apps_enabled": False,
    "metadata": {"team": "a"},
}


def camel(name):
    head, *tail = name.split("_")
    return head + "".join(part.title() for part in tail)


def assert_has(environment, fields):
    for name, value in fields.items():
        if name in ("compute_profile", "gui_enabled", "office_apps_enabled"):
            assert environment["metadata"][camel(name)] == value, name
        elif name == "metadata":
            assert value.items() <= environment["metadata"].items()
        elif name == "mcp_servers":
            assert [server["name"] for server in environment["mcpServers"]] == [server["name"] for server in value]
        else:
            assert environment[camel(name)] == value, name


def test_an_environment_has_every_field_it_was_given(client):
    made = client.environments.create("full", secrets=[{"key": "TOKEN", "value": "very-secret"}], **FIELDS)
    assert_has(made, FIELDS)
    assert made["name"] == "full" and made["isDefault"] is False and made["isActive"] is True
    assert [secret["key"] for secret in made["secrets"]] == ["TOKEN"]
    read = client.environments.get(made["id"])
    assert_has(read, FIELDS)
    assert "very-secret" not in str(made) + str(read) + str(client.environments.list())
    assert read["status"] == "stopped" and read["createdAt"] and read["updatedAt"]

    changed = client.environments.update(made["id"], name="renamed", description=None, internet_access=True, packages=None)
    assert (changed["name"], changed["internetAccess"]) == ("renamed", True)
    assert not changed["description"]
    assert changed["packages"] == {"system": [], "python": [], "node": []}
    assert changed["runtimes"] == FIELDS["runtimes"], "what is not named stays"

    replaced = client.environments.replace(made["id"], "replaced", runtimes={"python": "3.11"}, internet_access=False)
    assert (replaced["name"], replaced["runtimes"]) == ("replaced", {"python": "3.11"})
    assert replaced["environmentVariables"] == [], "what is not named is gone"

    assert client.environments.delete(made["id"]) is None
    with pytest.raises(ApiClientError) as gone:
        client.environments.get(made["id"])
    assert gone.value.status == 404
    assert made["id"] not in [environment["id"] for environment in client.environments.list()]


def test_every_form_of_runtimes_and_packages_is_understood(client, http):
    for runtimes, packages in [
        (["python", "nodejs"], ["flask", "pytest"]),
        ({"python": "3.11", "node": "20"}, {"python": ["flask", "pytest"]}),
    ]:
        answer = http.post("/environments", json={"name": "forms", "runtimes": runtimes, "packages": packages})
        assert answer.status_code == 201, answer.text
        environment = answer.json()["environment"]
        assert set(environment["runtimes"]) == {"python", "nodejs"}
        assert all(isinstance(version, str) for version in environment["runtimes"].values())
        assert environment["packages"]["python"] == ["flask", "pytest"]
        client.environments.delete(environment["id"], hard=True)


def test_there_is_always_exactly_one_default(client, http):
    default = client.environments.get_default()
    assert default["isDefault"] is True
    # Some clients read the bare object.
    bare = http.get("/environments/default").json()
    assert bare["id"] == bare["environment"]["id"] == default["id"]
    made = client.environments.create("new default", is_default=True, internet_access=False)
    assert client.environments.get_default()["id"] == made["id"]
    assert client.environments.set_default(default["id"])["isDefault"] is True
    defaults = client.environments.list(is_default=True)
    assert [environment["id"] for environment in defaults] == [default["id"]]
    client.environments.delete(made["id"], hard=True)


def test_all_environments_are_listed_and_pages_are_the_clients(client):
    made = [client.environments.create(f"many {n}", internet_access=False)["id"] for n in range(60)]
    listed = [environment["id"] for environment in client.computers.list()]
    assert set(made) <= set(listed), "no page hides any"
    assert len(client.environments.list(limit=5, offset=2, is_active=True)) == 5
    project = client.environments.get(made[0])["projectId"]
    assert set(made) <= {environment["id"] for environment in client.environments.list(project_id=project)}
    for id in made:
        client.environments.delete(id, hard=True)


def test_a_computer_is_started_asked_and_stopped(client, environment):
    id = environment["id"]
    assert client.environments.get_status(id)["status"] == "stopped"
    started = client.environments.start(id, enabled_skills={}, custom_skills=[])
    assert started["status"] == "running" and started["containerId"] and started["message"]
    status = client.environments.get_status(id)
    assert (status["status"], status["containerId"]) == ("running", started["containerId"])
    assert status["startedAt"]
    assert client.environments.get(id)["status"] == "running"
    assert client.environments.start(id)["containerId"] == started["containerId"], "twice is once"
    assert client.environments.stop(id)["status"] == "stopped"
    assert client.environments.get_status(id)["status"] == "stopped"
    assert client.environments.stop(id)["status"] == "stopped"


def test_wrong_fields_are_told_by_name(client):
    for given, field in [
        ({"runtimes": {"cobol": "1"}}, "runtimes.cobol"),
        ({"packages": {"python": ["a b"]}}, "packages.python[0]"),
        ({"mcp_servers": [{"type": "http", "name": "x"}]}, "mcpServers[0].url"),
        ({"environment_variables": [{"key": "A=B", "value": "1"}]}, "environmentVariables[0].key"),
    ]:
        with pytest.raises(ApiClientError) as wrong:
            client.environments.create("wrong", **given)
        assert (wrong.value.status, wrong.value.code) == (400, "VALIDATION_FAILED"), wrong.value
        assert [detail["field"] for detail in wrong.value.details] == [field]
        assert field in wrong.value.message


@pytest.mark.parametrize(
    "call",
    [
        lambda environments, id: environments.get(id),
        lambda environments, id: environments.update(id, name="x"),
        lambda environments, id: environments.replace(id, "x"),
        lambda environments, id: environments.delete(id),
        lambda environments, id: environments.set_default(id),
        lambda environments, id: environments.start(id),
        lambda environments, id: environments.stop(id),
        lambda environments, id: environments.get_status(id),
    ],
)
def test_an_environment_that_is_not_there_is_404(client, call):
    with pytest.raises(ApiClientError) as missing:
        call(client.environments, "env_nonexistent_12345")
    assert missing.value.status == 404 and "env_nonexistent_12345" in missing.value.message
