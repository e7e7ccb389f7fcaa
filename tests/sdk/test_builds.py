"""`client.environments`: what a computer's image is made from, and how it is built."""

import pytest
from computer_agents import ApiClientError

from conftest import eventually


@pytest.fixture
def made(client):
    """Makes computers of the test's own, without internet."""
    ids = []

    def make(**fields):
        environment = client.environments.create("built", internet_access=False, **fields)
        ids.append(environment["id"])
        return environment["id"]

    yield make
    for id in ids:
        client.environments.delete(id, hard=True)


def built(client, id, limit=300):
    """Waits for the end of a build and gives its status."""

    def over():
        status = client.environments.get_build_status(id)
        return status["buildStatus"] != "building" and status

    return eventually("the build is over", over, limit)


def test_languages_are_set_and_those_that_can_be_had_are_told(client, made):
    available = client.environments.list_available_runtimes()
    assert set(available) == {"python", "nodejs", "go", "php", "java", "ruby", "rust"}
    assert "3.11" in available["python"] and "18" in available["nodejs"]
    assert all(isinstance(version, str) for versions in available.values() for version in versions)
    id = made()
    assert client.environments.get_runtimes(id) == {}
    changed = client.environments.set_runtimes(id, {"python": "3.11", "nodejs": "18"})
    assert changed["runtimes"] == {"python": "3.11", "nodejs": "18"} and changed["buildStatus"] == "building"
    assert client.environments.get_runtimes(id) == {"python": "3.11", "nodejs": "18"}
    assert built(client, id)["buildStatus"] == "ready"
    with pytest.raises(ApiClientError) as wrong:
        client.environments.set_runtimes(id, {"python": "3.11; id"})
    assert wrong.value.status == 400 and "runtimes.python" in wrong.value.message


def test_packages_come_and_go(client, made):
    id = made()
    # Both are in the workspace image already, so no network is needed.
    result = client.environments.install_packages(id, "python", ["six"])
    assert result["installed"] == ["six"] and result["environment"]["packages"]["python"] == ["six"]
    client.environments.install_packages(id, "python", ["six>=1.0", "flask"])
    client.environments.install_packages(id, "node", ["@types/node@20"])
    assert client.environments.list_packages(id) == {
        "system": [],
        "python": ["six>=1.0", "flask"],
        "node": ["@types/node@20"],
    }
    left = client.environments.uninstall_package(id, "node", "@types/node")
    assert left["packages"]["node"] == []
    assert client.environments.uninstall_package(id, "python", "six")["packages"]["python"] == ["flask"]
    for call in [
        lambda: client.environments.uninstall_package(id, "python", "django"),
        lambda: client.environments.uninstall_package(id, "cobol", "flask"),
    ]:
        with pytest.raises(ApiClientError) as missing:
            call()
        assert missing.value.status == 404
    for packages in (["a;id"], ["--index-url=http://x"], []):
        with pytest.raises(ApiClientError) as wrong:
            client.environments.install_packages(id, "python", packages)
        assert (wrong.value.status, wrong.value.code) == (400, "VALIDATION_FAILED")
    tested = client.environments.test_build(id)
    assert tested["success"] is True, tested
    assert tested["imageTag"].startswith("atelier-env:") and "flask" in tested["logs"] and tested["duration"] > 0


def test_lines_of_a_dockerfile_are_checked_and_built(client, made):
    id = made()
    plain = client.environments.get_dockerfile(id)
    assert plain["baseImage"] == "atelier-workspace:latest" and plain["dockerfileExtensions"] is None
    assert plain["effectiveDockerfile"].startswith("FROM atelier-workspace:latest")
    good = client.environments.validate_dockerfile(id, "ENV A=1\nRUN true\nCMD true")
    assert good["valid"] is True and good["errors"] == [] and "line 3: CMD" in good["warnings"][0]
    assert "RUN true" in good["effectiveDockerfile"]
    bad = client.environments.validate_dockerfile(id, "RUN true\nFROM scratch\nCOPY --from=postgres / /x")
    assert bad["valid"] is False and [error[:7] for error in bad["errors"]] == ["line 2:", "line 3:"]
    with pytest.raises(ApiClientError) as wrong:
        client.environments.set_dockerfile_extensions(id, "FROM scratch")
    assert wrong.value.status == 400
    changed = client.environments.set_dockerfile_extensions(
        id, "RUN echo from the image > /opt/said", base_image="atelier-workspace:latest"
    )
    assert changed["dockerfileExtensions"] == "RUN echo from the image > /opt/said"
    assert built(client, id)["buildStatus"] == "ready"
    assert "/opt/said" in client.environments.get_build_logs(id)["buildLogs"]


def test_a_build_is_asked_for_followed_and_shared(client, http, made):
    lines = "RUN echo one && sleep 2 && echo two"
    id = made(dockerfile_extensions=lines)
    assert client.environments.get_build_status(id)["buildStatus"] == "pending"
    asked = client.environments.trigger_build(id)
    assert (asked["buildStatus"], asked["environmentId"], asked["success"]) == ("building", id, True)
    assert asked["buildId"] and asked["imageTag"] and asked["message"]
    assert client.environments.get(id)["buildStatus"] == "building"
    seen = eventually("it can be read along", lambda: client.environments.get_build_logs(id)["buildLogs"])
    assert seen
    status = built(client, id)
    assert status["buildStatus"] == "ready" and status["buildError"] is None and status["lastBuildAt"]
    assert (status["imageTag"], status["buildHash"]) == (asked["imageTag"], asked["buildHash"])
    logs = client.environments.get_build_logs(id)
    assert "one\n" in logs["buildLogs"] and "two\n" in logs["buildLogs"] and logs["logs"] == logs["buildLogs"]
    # Nothing has changed, so nothing is built; and an equal one takes what is there.
    assert client.environments.trigger_build(id)["buildId"] == asked["buildId"]
    other = made(dockerfile_extensions=lines)
    shared = client.environments.trigger_build(other)
    assert (shared["buildStatus"], shared["imageTag"]) == ("ready", asked["imageTag"])
    forced = http.post(f"/environments/{id}/build?force=true", json={}).json()
    assert forced["buildId"] != asked["buildId"] and forced["status"] == "building"
    assert built(client, id)["buildStatus"] == "ready"
    # Without anything to add there is nothing to build.
    plain = client.environments.trigger_build(made())
    assert (plain["buildStatus"], plain["imageTag"]) == ("ready", "atelier-workspace:latest")


def test_a_build_that_fails_says_why_and_leaves_what_was_there(client, made):
    id = made(dockerfile_extensions="RUN echo good > /opt/said")
    client.environments.trigger_build(id)
    good = built(client, id)
    client.environments.update(id, dockerfile_extensions="RUN echo the reason >&2; exit 3")
    assert client.environments.get_build_status(id)["buildStatus"] == "pending"
    client.environments.trigger_build(id)
    status = built(client, id)
    assert status["buildStatus"] == "failed" and "the reason" in status["buildError"]
    assert status["imageTag"] == good["imageTag"], "the last good image stays in use"
    assert client.environments.get(id)["buildError"] == status["buildError"]
    tested = client.environments.test_build(id)
    assert tested["success"] is False and "the reason" in tested["logs"] and tested["error"]
    assert client.environments.start(id)["status"] == "running"


def test_a_computer_without_its_first_image_is_not_started(client, made):
    id = made(dockerfile_extensions="RUN sleep 2")
    with pytest.raises(ApiClientError) as building:
        client.environments.start(id)
    assert (building.value.status, building.value.code) == (409, "building")
    assert built(client, id)["buildStatus"] == "ready"
    assert client.environments.start(id)["status"] == "running"


def test_a_run_waits_for_the_image_and_tells_of_it(client, made):
    id = made(setup_scripts=["echo set up > /opt/said"])
    events = []
    result = client.run("Write hello.py and run it", id, on_event=events.append)
    assert result.content == "It said: hello from the agent"
    logs = [event["log"] for event in events if event["type"] == "log"]
    assert {log["eventType"] for log in logs} == {"setup"}
    said = [log["message"] for log in logs]
    assert said[0] == "The environment's image is being built." and said[-1].startswith("The environment's image is ready")
    assert any(line.startswith("Step ") and "set up" in line for line in said), said


@pytest.mark.parametrize(
    "call",
    [
        lambda environments, id: environments.get_runtimes(id),
        lambda environments, id: environments.set_runtimes(id, {"python": "3.11"}),
        lambda environments, id: environments.list_packages(id),
        lambda environments, id: environments.install_packages(id, "python", ["six"]),
        lambda environments, id: environments.uninstall_package(id, "python", "six"),
        lambda environments, id: environments.get_dockerfile(id),
        lambda environments, id: environments.set_dockerfile_extensions(id, "RUN true"),
        lambda environments, id: environments.validate_dockerfile(id, "RUN true"),
        lambda environments, id: environments.trigger_build(id),
        lambda environments, id: environments.get_build_status(id),
        lambda environments, id: environments.get_build_logs(id),
        lambda environments, id: environments.test_build(id),
    ],
)
def test_an_environment_that_is_not_there_is_404(client, call):
    with pytest.raises(ApiClientError) as missing:
        call(client.environments, "env_nonexistent_12345")
    assert missing.value.status == 404
