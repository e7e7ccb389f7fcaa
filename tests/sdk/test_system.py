"""Health, version and metrics; keys; and that what is not served is told as an error that the SDK can read."""

import httpx
import pytest
from computer_agents import ApiClientError, ComputerAgentsClient
from prometheus_client.parser import text_string_to_metric_families


def test_health_and_readiness_need_no_key(client, installation):
    health = client.health()
    assert health["status"] == "healthy" and isinstance(health["uptime"], int) and health["timestamp"]
    assert isinstance(health["checks"], dict)
    assert isinstance(client.ready(), dict)
    for path in ("/health", "/v1/health", "/ready", "/version", "/metrics", "/openapi.json"):
        assert httpx.get(installation.url + path, timeout=60).status_code == 200, path


def test_metrics_are_json_unless_text_is_asked_for(client, http):
    metrics = client.metrics()
    for name in ("totalExecutions", "successfulExecutions", "failedExecutions", "averageDuration", "totalTokensUsed", "totalCost"):
        assert isinstance(metrics[name], (int, float)), name
    text = http.get("/metrics", headers={"Accept": "text/plain"})
    assert text.headers["content-type"].startswith("text/plain") and "# TYPE" in text.text


def test_prometheus_reads_the_page_of_metrics(client, http):
    client.run("What is known?")
    families = {family.name: family for family in text_string_to_metric_families(http.get("/metrics", headers={"Accept": "text/plain"}).text)}
    kinds = {name: family.type for name, family in families.items()}
    assert kinds["atelier_http_requests"] == "counter" and kinds["atelier_runs"] == "gauge"
    for name in ("atelier_http_response_seconds", "gen_ai_client_operation_duration", "gen_ai_client_token_usage"):
        assert kinds[name] == "histogram" and families[name].documentation, name
        series = {}
        for sample in families[name].samples:
            labels = tuple(sorted((label, value) for label, value in sample.labels.items() if label != "le"))
            series.setdefault(labels, []).append(sample)
        for samples in series.values():
            buckets = [(float(sample.labels["le"]), sample.value) for sample in samples if sample.name == f"{name}_bucket"]
            [count] = [sample.value for sample in samples if sample.name == f"{name}_count"]
            assert buckets == sorted(buckets) and [value for _, value in buckets] == sorted(value for _, value in buckets)
            assert buckets[-1] == (float("inf"), count)
    used = {sample.labels["gen_ai_token_type"]: sample.value for sample in families["gen_ai_client_token_usage"].samples if sample.name.endswith("_sum")}
    assert used["input"] > 0 and used["output"] > 0


def test_the_version_has_the_fields_of_the_platform(client):
    version = client.system.version()
    assert {"build_version", "build_timestamp", "git_commit", "skills_hash", "skills_version", "node_version"} <= set(version)
    assert version["build_version"]


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_any_form_of_the_base_url_works(installation, suffix):
    with ComputerAgentsClient(api_key=installation.key, base_url=installation.url + suffix) as client:
        assert client.health()["status"] == "healthy"
        assert isinstance(client.agents.list(), list)


def test_a_wrong_key_is_401(installation):
    for key in ("tb_wrong", "x", "tb_" + "0" * 64):
        with ComputerAgentsClient(api_key=key, base_url=installation.url) as client, pytest.raises(ApiClientError) as refused:
            client.agents.list()
        assert refused.value.status == 401 and refused.value.message
    assert httpx.get(installation.url + "/agents", timeout=60).status_code == 401
    headers = {"X-API-Key": installation.key}
    assert httpx.get(installation.url + "/agents", headers=headers, timeout=60).status_code == 200


def test_an_organization_that_the_key_does_not_open_is_403(client):
    with pytest.raises(ApiClientError) as refused:
        client.with_organization("org_1").agents.list()
    assert refused.value.status == 403 and "organization" in refused.value.message


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.fine_tuning.list_jobs(),
        lambda client: client.voice_agents.list(),
        lambda client: client.organizations.list(),
    ],
)
def test_what_is_not_served_is_told_with_a_sentence(client, call):
    with pytest.raises(ApiClientError) as missing:
        call(client)
    assert missing.value.status == 404 and "Nothing is served at" in missing.value.message


def test_quick_setup_finds_the_only_project(client):
    setup = client.quick_setup()
    assert setup["project"]["id"] == client.projects.get()["id"]
    assert setup["environment"]["isDefault"] and setup["computer"] == setup["environment"]
