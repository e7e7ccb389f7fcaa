"""`client.files`: what agents and clients leave in a workspace."""

import io
import os
import struct
import zipfile
import zlib

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


def png(width, height):
    """A picture, made by hand."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = (b"\0" + b"\xc8\x0a\x0a" * width) * height
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_an_image_has_a_thumbnail(client, environment):
    id = environment["id"]
    client.files.upload_file(id, "red.png", png(400, 200), path="pictures")
    thumbnail = client.files.download_thumbnail(id, "pictures/red.png", width=100, height=100)
    assert thumbnail.startswith(b"\xff\xd8") and len(thumbnail) < 5000
    with pytest.raises(ApiClientError) as wrong:
        client.files.download_thumbnail(id, "pictures")
    assert wrong.value.status == 409
    client.files.upload_file(id, "text.png", b"not a picture")
    with pytest.raises(ApiClientError) as wrong:
        client.files.download_thumbnail(id, "text.png")
    assert (wrong.value.status, wrong.value.code) == (415, "not_an_image")


def test_files_are_sent_to_another_environment(client, environment):
    other = client.environments.create("other", internet_access=False)
    try:
        client.files.upload_file(environment["id"], "a.txt", b"new", path="src")
        client.files.upload_file(environment["id"], "b.txt", b"b")
        client.files.upload_file(other["id"], "a.txt", b"old", path="src")
        sent = client.files.send_files_to_computer(environment["id"], other["id"], ["src", "b.txt"])
        assert (sent["success"], sent["files"], sent["paths"]) == (True, 2, ["src", "b.txt"])
        assert client.files.get_file(other["id"], "src/a.txt") == "new"
        assert client.files.get_file(other["id"], "b.txt") == "b"
        with pytest.raises(ApiClientError) as missing:
            client.files.send_files_to_environment(environment["id"], "env_no", ["src"])
        assert missing.value.status == 404
        for share in (client.files.make_files_available_to_team, client.files.share_files_with_team):
            with pytest.raises(ApiClientError) as refused:
                share(environment["id"], "team_1", ["src"])
            assert refused.value.status == 501 and "no teams" in refused.value.message
    finally:
        client.environments.delete(other["id"], hard=True)


def test_a_part_of_a_file_and_a_file_that_did_not_change(client, http, environment):
    id = environment["id"]
    client.files.upload_file(id, "f.txt", b"0123456789")
    road = f"/v1/environments/{id}/files/download/f.txt"
    whole = http.get(road)
    part = http.get(road, headers={"Range": "bytes=2-4", "If-Range": whole.headers["etag"]})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    assert http.get(road, headers={"Range": "bytes=10-"}).status_code == 416
    assert http.get(road, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
    assert http.head(road).headers["content-length"] == "10"
    client.files.upload_file(id, "f.txt", b"9876543210")
    assert http.get(road, headers={"If-None-Match": whole.headers["etag"]}).content == b"9876543210"
