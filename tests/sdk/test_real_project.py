"""A real project of several thousand files, from its package to a push, with what an agent does to it taken back."""

import pathlib
import subprocess
import sys

import pytest

#: What PyPI ships of it, with what it needs to run: about 3,700 files.
PROJECT = "django==5.2.8"


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    directory = tmp_path_factory.mktemp("packages")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
    try:
        done = subprocess.run([*command, "-d", directory, PROJECT], capture_output=True, text=True, timeout=60)
        said = done.stderr.strip()
    except subprocess.TimeoutExpired:
        said = "no answer within 60 s"
    found = sorted(pathlib.Path(directory).glob("*.whl"))
    if not any(wheel.name.startswith("django-") for wheel in found):
        pytest.skip(f"no package registry gives {PROJECT}: {said[-300:]}")
    return found


@pytest.mark.timeout(300)
def test_a_real_project_goes_all_the_way(client, environment, packages):
    id = environment["id"]
    thread = client.threads.create(id)["id"]

    def sh(command, thread=thread):
        return client.threads.send_message(thread, content=f"{command} #shell").content.strip()

    def state(thread=thread):
        """What the whole project is: names, contents, modes and links; not what Python makes again by itself."""
        seen = r"find . \( -path ./.git -o -name __pycache__ \) -prune -o"
        files = f"{seen} -type f -print0 | sort -z | xargs -0 sha256sum"
        kinds = f"{seen} -printf '%p %y %m %l\\n' | sort"
        return sh(f"cd project && ({files}; {kinds}) | sha256sum", thread)

    def newest(thread=thread):
        return client.threads.list_steps(thread)[-1]

    for wheel in packages:
        client.files.upload_file(id, wheel.name, wheel.read_bytes(), path="wheels")
    said = sh(
        "mkdir project && for wheel in wheels/*.whl; do python3 -m zipfile -e $wheel project; done && cd project"
        " && git init -q -b main . && git init -q --bare -b main ../remote.git && git remote add origin ../../remote.git"
        " && git remote set-url origin /workspace/remote.git && find . -type f -not -path './.git/*' | wc -l"
    )
    count = int(said)
    assert count > 3000
    unpacked = newest()
    assert unpacked["metadata"]["fileCount"] > count

    staged = client.git.stage(id, path="project", all=True)
    assert len(staged["stagedFiles"]) == count
    first = client.git.commit(id, "Import", path="project")
    assert client.environments.list_changes(id, limit=1)["data"][0]["title"] == "Committed: Import"

    # Build and run.
    assert sh("cd project && python3 -m compileall -q -j 2 django && find . -name '*.pyc' | wc -l") != "0"
    sh("cd project && echo '*.pyc' >> .git/info/exclude && python3 -m django startproject site_of_ours")
    assert "no issues" in sh("cd project/site_of_ours && PYTHONPATH=.. python3 manage.py check")

    # An edit by shell: one file changed, one moved, a whole directory gone.
    edit = (
        "cd project && sed -i 's/^VERSION = .*/VERSION = (9, 9, 9, \"final\", 0)/' django/__init__.py"
        " && mv LICENSE.ours django/LICENSE.moved && rm -r django/contrib/gis"
    )
    sh("cd project && echo ours > LICENSE.ours")
    built, before = newest(), state()
    sh(edit)
    edited, after = newest(), state()
    assert sh("cd project && python3 -B -m django --version") == "9.9.9" and after != before

    diff = client.threads.get_step_diff(thread, edited["id"], path="project/django/__init__.py")
    assert '+VERSION = (9, 9, 9, "final", 0)' in diff["diff"] and (diff["additions"], diff["deletions"]) == (1, 1)
    assert edited["metadata"]["fileCount"] > 100
    [moved] = client.threads.get_file_history(thread, path="project/django/LICENSE.moved")["data"]
    assert (moved["stepId"], moved["previousPath"]) == (edited["id"], "project/LICENSE.ours")
    changed = {file["path"] for file in client.git.get_status(id, path="project")["changedFiles"]}
    assert "django/__init__.py" in changed and any(path.startswith("django/contrib/gis/") for path in changed)

    # Back, and forth again, to the byte.
    reverted = client.threads.revert_to_step(thread, built["id"], revertedChangeStepId=edited["id"])
    assert reverted["notRestored"] == [] and state() == before
    assert sh("cd project && python3 -B -m django --version") == "5.2.8"
    client.threads.revert_to_step(
        thread, edited["id"], historyActionType="reapply", revertedChangeStepId=edited["id"]
    )
    assert state() == after

    # A fork works on what there was, by itself.
    fork = client.threads.fork_from_step(thread, built["id"], mode="historical")
    try:
        assert state(fork["thread"]["id"]) == before
        assert sh("cd project && python3 -B -m django --version", fork["thread"]["id"]) == "5.2.8"
        assert sh("cd project && git log --oneline | wc -l", fork["thread"]["id"]) == "1"
    finally:
        client.environments.delete(fork["environmentId"], hard=True)
    assert state() == after

    client.git.stage(id, path="project", all=True)
    second = client.git.commit(id, "Edit", path="project")
    assert second["sha"] != first["sha"]
    pushed = client.git.push(id, path="project", branch="main")
    assert (pushed["success"], pushed["branch"]) == (True, "main")
    assert sh("git -C remote.git rev-parse main && git -C remote.git show main:django/__init__.py | grep VERSION").startswith(
        f'{second["sha"]}\nVERSION = (9, 9, 9, "final", 0)'
    )
