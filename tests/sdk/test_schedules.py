"""`client.schedules`, method by method."""

import datetime

import pytest
from computer_agents import ApiClientError

from conftest import eventually


@pytest.fixture
def agent(client):
    made = client.agents.create("Reporter", "claude-sonnet-4-5", instructions="Be brief.")
    yield made
    client.agents.delete(made["id"])


def create(client, agent, **more):
    fields = {"schedule_type": "recurring", "cron_expression": "0 9 * * MON-FRI", "timezone": "Europe/Berlin"} | more
    return client.schedules.create("Daily", agent["id"], agent["name"], "Write the report", **fields)


def test_a_schedule_is_what_it_was_made_of(client, agent):
    made = create(
        client, agent, description="d", context_id="ctx", context_name="C", app_id="app", workspace_id="w",
        workspace_name="W", metadata={"a": 1}, enabled=False,
    )
    expected = {
        "name": "Daily", "description": "d", "agentId": agent["id"], "agentName": "Reporter", "task": "Write the report",
        "scheduleType": "recurring", "cronExpression": "0 9 * * MON-FRI", "scheduledTime": None,
        "timezone": "Europe/Berlin", "enabled": False, "contextId": "ctx", "contextName": "C", "appId": "app",
        "workspaceId": "w", "workspaceName": "W", "metadata": {"a": 1}, "runCount": 0, "nextRunAt": None, "nextRuns": [],
    }
    for seen in (made, client.schedules.get(made["id"])):
        assert {name: seen[name] for name in expected} == expected
    listed = client.schedules.list(agent_id=agent["id"], schedule_type="recurring", app_id="app", enabled=False)
    assert [schedule["id"] for schedule in listed] == [made["id"]]
    assert client.schedules.list(agent_id=agent["id"], enabled=True) == []
    changed = client.schedules.update(made["id"], name="Weekly", cron_expression="0 9 * * 1", description=None)
    assert (changed["name"], changed["cronExpression"], changed["description"]) == ("Weekly", "0 9 * * 1", None)
    enabled = client.schedules.enable(made["id"])
    assert enabled["enabled"] and enabled["nextRunAt"] == enabled["nextRuns"][0] and len(enabled["nextRuns"]) == 5
    moments = [datetime.datetime.fromisoformat(moment.replace("Z", "+00:00")) for moment in enabled["nextRuns"]]
    assert all(moment.weekday() == 0 and moment.hour in (7, 8) for moment in moments), moments
    assert client.schedules.disable(made["id"])["nextRunAt"] is None
    assert client.schedules.delete(made["id"]) is None
    with pytest.raises(ApiClientError) as gone:
        client.schedules.get(made["id"])
    assert gone.value.status == 404


def test_one_that_is_fired_by_hand_runs_and_is_listed(client, agent):
    made = create(client, agent)
    fired = client.schedules.trigger(made["id"])
    assert fired["triggered"] is True and fired["execution"]["triggerType"] == "manual"
    assert fired["thread"]["id"] == fired["execution"]["threadId"]

    def done():
        listed = client.schedules.list_executions(schedule_id=made["id"])
        return listed["data"][0]["status"] == "completed" and listed

    listed = eventually("the run is over", done)
    assert (len(listed["data"]), listed["hasMore"]) == (1, False)
    execution = listed["data"][0]
    assert (execution["runId"], execution["scheduleName"]) == (fired["runId"], "Daily")
    assert execution["completedAt"] and execution["threadStatus"] == "completed" and execution["error"] is None
    seen = client.schedules.get(made["id"])
    assert (seen["runCount"], seen["successCount"], seen["failureCount"]) == (1, 1, 0)
    messages = client.threads.get_messages(fired["thread"]["id"])
    assert messages["data"][0]["content"] == "Write the report"
    client.schedules.delete(made["id"])


def test_one_time_schedules_fire_by_themselves_once(client, agent):
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=2)
    made = create(client, agent, schedule_type="one-time", cron_expression=None, scheduled_time=soon.isoformat())
    assert made["nextRunAt"] == made["scheduledTime"]

    def done():
        data = client.schedules.list_executions(schedule_id=made["id"])["data"]
        return data and data[0]["status"] == "completed" and data

    executions = eventually("it has fired and run", done)
    assert [(e["triggerType"], e["scheduledFor"]) for e in executions] == [("automatic", made["scheduledTime"])]
    seen = client.schedules.get(made["id"])
    assert (seen["enabled"], seen["nextRunAt"], seen["runCount"]) == (False, None, 1)
    client.schedules.delete(made["id"])


@pytest.mark.parametrize(
    "field, more",
    [
        ("cronExpression", {"cron_expression": "61 * * * *"}),
        ("cronExpression", {"cron_expression": "* * * * * *"}),
        ("cronExpression", {"cron_expression": "0 0 30 2 *"}),
        ("cronExpression", {"cron_expression": None}),
        ("timezone", {"timezone": "Europe/Atlantis"}),
        ("scheduledTime", {"schedule_type": "one-time", "scheduled_time": "2001-01-01T00:00:00Z"}),
        ("scheduledTime", {"schedule_type": "one-time", "scheduled_time": "tomorrow"}),
        ("scheduleType", {"schedule_type": "sometimes"}),
    ],
)
def test_what_is_not_acceptable_is_told_by_field(client, agent, field, more):
    with pytest.raises(ApiClientError) as refused:
        create(client, agent, **more)
    assert refused.value.status == 400 and field in str(refused.value)
