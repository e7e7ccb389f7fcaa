"""`client.files`: what agents and clients leave in a workspace."""

import io
import os
import zipfile

import pytest
from computer_agents import ApiClientError


def paths(client, environment, **query):
    return [entry["path"] for entry in client.files.list_files(environment["id"], **query)]


def test_files_are_uploaded_listed_read_moved_and_deleted(client, environment):
    id = environment["id"]
    assert client.files.list(id)["files"] == []
    uploaded = client.files.upload_file(id, "app.py", 'print("h\u00fc")\n', path="src", content_type="text/x-python")
    assert (uploaded["success"], uploaded["filename"], uploaded["path"]) == (True, "app.py", "src/app.py")
    assert uploaded["size"] == len('print("h\u00fc")\n'.encode())
    blob = os.urandom(1 << 20)
    client.files.upload_file(id, "b l\u00f6b #?%.bin", blob)
    assert client.files.get_file(id, "src/app.py") == 'print("h\u00fc")\n'
    assert client.files.get_file(id, "/src/app.py") == 'print("h\u00fc")\n'
    assert client.files.download_file(id, "b l\u00f6b #?%.bin") == blob

    assert client.files.create_directory(id, "/a/b/c")["path"] == "a/b/c"
    assert client.files.create_directory(id, "a/b")["success"] is True
    moved = client.files.move_file(id, "/src/app.py", "a/b/main.py")
    assert (moved["success"], moved["sourcePath"], moved["destPath"]) == (True, "src/app.py", "a/b/main.py")
    assert paths(client, environment) == ["a", "a/b", "a/b/c", "a/b/main.py", "b l\u00f6b #?%.bin", "src"]
    assert paths(client, environment, path="a", depth=1) == ["a/b"]
    listing = client.files.list(id, path="a")
    assert (listing["path"], listing["count"], listing["environmentId"]) == ("a", 3, id)
    entries = {entry["path"]: entry for entry in client.files.list_files(id)}
    assert entries["a/b"]["type"] == "directory" and entries["a/b/main.py"]["type"] == "file"
    assert entries["a/b/main.py"]["name"] == "main.py" and isinstance(entries["a/b"]["size"], int)
    assert entries["a/b/main.py"]["modifiedAt"] and entries["a/b/main.py"]["lastModified"]

    archive = zipfile.ZipFile(io.BytesIO(client.files.download_directory(id, "a")))
    assert archive.testzip() is None
    assert [name for name in archive.namelist() if name.endswith("main.py")]

    deleted = client.files.delete_file(id, "a/b/main.py")
    assert (deleted["success"], deleted["filePath"]) == (True, "a/b/main.py")
    assert client.files.delete_file(id, "a")["success"] is True
    assert paths(client, environment) == ["b l\u00f6b #?%.bin", "src"]


def test_an_upload_replaces_and_an_empty_file_is_a_file(client, environment):
    id = environment["id"]
    for content in (b"first and long", b"second", b""):
        assert client.files.upload_file(id, "f", content)["size"] == len(content)
        assert client.files.download_file(id, "f") == content


def test_what_is_not_there_or_not_allowed_is_told(client, environment):
    id = environment["id"]
    for call in (client.files.get_file, client.files.download_file, client.files.download_directory, client.files.delete_file):
        with pytest.raises(ApiClientError) as missing:
            call(id, "nothing/here.txt")
        assert missing.value.status == 404 and missing.value.message != "HTTP 404"
    with pytest.raises(ApiClientError) as missing:
        client.files.move_file(id, "nothing", "something")
    assert missing.value.status == 404
    for call in (
        lambda path: client.files.get_file(id, path),
        lambda path: client.files.delete_file(id, path),
        lambda path: client.files.create_directory(id, path),
        lambda path: client.files.move_file(id, path, "x"),
        lambda path: client.files.upload_file(id, "x", b"", path=path),
        lambda path: client.files.list(id, path=path),
    ):
        for path in ("a/../../../etc/passwd", "a/\0b"):
            with pytest.raises(ApiClientError) as wrong:
                call(path)
            assert 400 <= wrong.value.status < 500, path
    with pytest.raises(ApiClientError) as missing:
        client.files.list("env_nonexistent_12345")
    assert missing.value.status == 404


def test_a_link_that_an_agent_made_leads_nowhere_else(client, installation, environment):
    """Whatever a workspace holds, the server reads nothing outside of it."""
    workspace = installation.data / "environments" / environment["id"] / "workspace"
    client.files.create_directory(environment["id"], "d")
    (workspace / "link").symlink_to("/etc/passwd")
    (workspace / "up").symlink_to("../../../..")
    for path in ("link", "up/api-key"):
        with pytest.raises(ApiClientError) as refused:
            client.files.download_file(environment["id"], path)
        assert 400 <= refused.value.status < 500
    client.files.delete_file(environment["id"], "link")
    assert os.path.exists("/etc/passwd")
