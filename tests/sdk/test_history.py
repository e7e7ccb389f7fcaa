"""`client.environments`: snapshots and changes, method by method."""

import pytest
from computer_agents import ApiClientError


@pytest.fixture
def past(client, environment):
    """An environment whose history has a beginning and three changes."""
    id = environment["id"]
    client.environments.initialize_snapshots(id)
    client.files.upload_file(id, "app.py", "one\ntwo\n", path="src")
    client.files.upload_file(id, "app.py", "one\n2\n", path="src")
    client.files.delete_file(id, "src/app.py")
    return id


def test_a_history_begins_with_what_is_there(client, environment):
    id = environment["id"]
    client.files.upload_file(id, "x", "1")
    begun = client.environments.initialize_snapshots(id)
    assert (begun["environmentId"], begun["snapshot"]["environmentId"]) == (id, id)
    again = client.environments.initialize_snapshots(id)
    assert again["snapshot"]["id"] == begun["snapshot"]["id"]


def test_snapshots_are_listed_shown_and_read(client, past):
    snapshots = client.environments.list_snapshots(past)
    assert [snapshot["changedPaths"] for snapshot in snapshots] == [["src/app.py"]] * 3 + [[]]
    assert [snapshot["additions"] for snapshot in snapshots] == [0, 1, 2, 0]
    assert client.environments.list_snapshots(past, limit=1, offset=1)[0]["id"] == snapshots[1]["id"]
    edited = snapshots[1]["id"]
    files = client.environments.list_snapshot_files(past, edited)
    assert [(file["path"], file["type"], file["size"]) for file in files] == [
        ("src", "directory", None),
        ("src/app.py", "file", 6),
    ]
    assert client.environments.list_snapshot_files(past, edited, prefix="src/app.py")[0]["name"] == "app.py"
    diff = client.environments.get_snapshot_diff(past, edited, path="src/app.py")
    assert "-two\n+2\n" in diff["diff"] and diff["parentSnapshotId"] == snapshots[2]["id"]
    assert client.environments.get_snapshot_file(past, edited, path="src/app.py")["content"] == "one\n2\n"
    assert client.environments.get_snapshot_file_raw(past, edited, path="src/app.py") == b"one\n2\n"
    with pytest.raises(ApiClientError) as missing:
        client.environments.get_snapshot_file(past, snapshots[0]["id"], path="src/app.py")
    assert missing.value.status == 404


def test_changes_are_listed_shown_and_read(client, past):
    changes = client.environments.list_changes(past)
    assert (changes["total"], changes["hasMore"]) == (3, False)
    assert [change["files"][0]["operation"] for change in changes["data"]] == ["deleted", "modified", "uploaded"]
    assert client.environments.list_changes(past, operation="uploaded")["total"] == 1
    assert client.environments.list_changes(past, agent_id="agent_none")["total"] == 0
    edited = changes["data"][1]["id"]
    assert "-two\n+2\n" in client.environments.get_change_diff(past, edited)["diff"]
    assert client.environments.get_change_file(past, edited, path="src/app.py")["content"] == "one\n2\n"
    assert client.environments.get_change_file_raw(past, edited, path="src/app.py") == b"one\n2\n"


def test_forks_have_the_files_of_then(client, past):
    snapshot = client.environments.list_snapshots(past)[2]["id"]
    change = client.environments.list_changes(past)["data"][1]["id"]
    for fork, content in (
        (client.environments.fork_from_snapshot(past, snapshot, name="then"), "one\ntwo\n"),
        (client.environments.fork_from_change(past, change, name="then", description="later"), "one\n2\n"),
    ):
        id = fork["environment"]["id"]
        assert fork["environment"]["name"] == "then" and fork["sourceSnapshotId"].startswith("snap_")
        assert client.files.get_file(id, "src/app.py") == content
        assert [snapshot["id"] for snapshot in client.environments.list_snapshots(id)] == [fork["snapshot"]["id"]]
        client.environments.delete(id, hard=True)
    assert client.files.list_files(past) and client.environments.list_changes(past)["total"] == 3
