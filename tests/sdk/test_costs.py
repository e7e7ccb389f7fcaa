"""`client.budget` and `client.billing`, method by method."""

import pytest
from computer_agents import ApiClientError


@pytest.fixture
def no_limits(http):
    yield
    for limit in http.get("/billing/limits").json()["data"]:
        body = {"subject": limit["subject"], "dailyLimit": None, "monthlyLimit": None, "totalLimit": None}
        http.put("/billing/limits", json=body | ({"id": limit["id"]} if limit["id"] else {})).raise_for_status()


def test_what_a_message_cost_is_in_every_report(client, thread):
    before = client.budget.get_cost_summary(period="all")["totals"]["totalCT"]
    client.threads.send_message(thread["id"], content="hello there")
    cost = round(client.threads.get(thread["id"])["totalCost"] * 1e6)
    assert cost > 0
    summary = client.budget.get_cost_summary(period="day")
    assert summary["totals"]["totalCT"] == before + cost
    assert sum(day["totalCT"] for day in client.budget.get_cost_summary(period="all")["byDay"]) == before + cost
    breakdown = client.budget.get_breakdown(group_by="environment", period="all")
    shares = {share["id"]: share["totalCT"] for share in breakdown["environments"]}
    assert shares[thread["environmentId"]] == cost and breakdown["groupBy"] == "environment"
    threads = client.budget.get_thread_costs(environment_id=thread["environmentId"], sort_by="totalCost")
    assert [found["id"] for found in threads["data"]] == [thread["id"]]
    tokens = client.budget.get_token_performance(period="day")
    assert tokens["totals"]["totalTokens"] == tokens["byDay"][0]["totalTokens"] > 0
    records = client.budget.get_records(limit=1)
    assert records["records"][0]["threadId"] == thread["id"]
    assert round(records["records"][0]["amountUsd"] * 1e6) == cost and records["pagination"]["total"] >= 1


def test_a_budget_is_hard_and_can_be_raised(client, http, thread, no_limits):
    assert client.budget.can_execute(1000)["canExecute"] is True
    http.put("/billing/limits", json={"totalLimit": 0}).raise_for_status()
    status = client.budget.get_status()
    added = status["topUpBalanceUsd"]
    spent = client.billing.get_budget()["totalSpentUsd"]
    http.put("/billing/limits", json={"totalLimit": 0, "dailyLimit": 0}).raise_for_status()
    assert client.budget.can_execute(0.01)["canExecute"] is False
    with pytest.raises(ApiClientError) as refused:
        client.threads.send_message(thread["id"], content="hello there")
    assert (refused.value.status, refused.value.code) == (402, "INSUFFICIENT_BUDGET")
    assert client.threads.get_messages(thread["id"])["data"] == []
    http.put("/billing/limits", json={"dailyLimit": None}).raise_for_status()
    raised = client.budget.increase(spent + 5, description="more")
    assert raised["success"] and raised["addedAmountUsd"] == spent + 5
    assert client.budget.get_status()["topUpBalanceUsd"] == pytest.approx(added + spent + 5)
    assert client.budget.can_execute(1)["canExecute"] is True
    client.threads.send_message(thread["id"], content="hello there")


def test_preferences_and_what_this_server_does_not_have(client, no_limits):
    changed = client.billing.update_preferences(monthlyResourceSpendLimit=1000, pauseOnLimit=True)
    assert changed["billing"]["monthlyResourceSpendLimit"] == 1000
    assert client.billing.get_preferences() == changed
    for call in (
        client.billing.get_catalog,
        client.billing.get_organization_summary,
        client.billing.get_organization_plan,
        client.billing.get_organization_checkout_context,
        lambda: client.billing.update_organization_usage_controls(limit=1),
        client.billing.list_inference_endpoints,
        lambda: client.billing.create_inference_endpoint(name="x"),
        lambda: client.billing.update_inference_endpoint("x", name="y"),
        lambda: client.billing.delete_inference_endpoint("x"),
        lambda: client.billing.create_inference_endpoint_version("x", a=1),
        lambda: client.billing.update_inference_endpoint_version("x", "v", a=1),
        lambda: client.billing.publish_inference_endpoint_version("x", "v"),
        lambda: client.billing.test_inference_endpoint("x"),
        lambda: client.billing.test_inference_connection(inference={}),
    ):
        with pytest.raises(ApiClientError) as absent:
            call()
        assert absent.value.status == 501 and "hosted service" in absent.value.message


def test_the_reports_of_older_clients(http):
    assert set(http.get("/billing/summary").json()) == {
        "totalSpent", "periodStart", "periodEnd", "runCount", "tokenCount",
    }
    assert isinstance(http.get("/billing/daily").json()["days"], list)
    assert http.get("/billing/account").json()["account"]["type"] == "standard"
    assert http.get("/billing/stats", params={"breakdown": "model"}).json()["stats"]["period"] == "month"
    assert http.get("/billing/transactions").json()["pagination"]["limit"] == 50
    lines = http.get("/costs/export", params={"groupBy": "day"}).text.splitlines()
    assert lines[0].startswith("date,runs,calls,")
