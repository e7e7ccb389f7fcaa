"""`client.git`: a repository of the workspace, from its first commit to the remote."""

import pathlib
import subprocess
import sys
import zipfile

import httpx
import pytest
from computer_agents import ApiClientError

from conftest import eventually

# What is served in place of github.com, inside the container: the setting says where.
SERVE = "cd /workspace/served && exec python3 -m http.server 8099 --bind 127.0.0.1"


@pytest.fixture
def sh(client, environment):
    """Runs a command as an agent does, and gives what it said."""
    thread = client.threads.create(environment["id"])

    def run(command):
        return client.run(f"{command} #shell", environment["id"], thread_id=thread["id"]).content

    return run


@pytest.fixture
def repository(client, environment, sh):
    """A repository at the top of the workspace, with a bare one in `remote.git` as its origin."""
    said = sh(
        "git init -q -b main . && git init -q --bare -b main remote.git && echo remote.git > .git/info/exclude"
        " && git remote add origin /workspace/remote.git && echo ready"
    )
    assert said.strip() == "ready"
    return environment["id"]


def write(client, id, path, content):
    directory, _, name = path.rpartition("/")
    client.files.upload_file(id, name, content, path=directory)


def refused(status, call, *arguments, **more):
    with pytest.raises(ApiClientError) as wrong:
        call(*arguments, **more)
    assert wrong.value.status == status, wrong.value
    return wrong.value


def test_a_workspace_without_a_repository_says_so(client, environment):
    status = client.git.get_status(environment["id"])
    assert (status["isGitRepo"], status["changedFiles"], status["branch"]) == (False, [], None)
    assert "not in a git repository" in status["message"]
    assert refused(409, client.git.commit, environment["id"], "x").code == "not_a_repository"
    refused(404, client.git.get_status, environment["id"], path="nowhere")
    refused(404, client.git.get_status, "env_nonexistent_12345")


def test_changes_are_seen_staged_unstaged_and_committed(client, repository):
    git, id = client.git, repository
    write(client, id, "src/app.py", "print(1)\n")
    write(client, id, "b l\u00f6b.txt", "x\n")
    status = git.get_status(id)
    assert (status["isGitRepo"], status["branch"], status["path"]) == (True, "main", "")
    assert status["remoteUrl"] == "/workspace/remote.git"
    assert {(file["path"], file["status"]) for file in status["changedFiles"]} == {
        ("src/app.py", "untracked"),
        ("b l\u00f6b.txt", "untracked"),
    }
    assert (status["hasChanges"], status["hasStagedChanges"], status["hasUnstagedChanges"]) == (True, False, True)
    staged = git.stage(id, files=["src/app.py"])
    assert (staged["success"], staged["stagedFiles"], staged["message"]) == (True, ["src/app.py"], "Staged 1 file(s)")
    assert git.unstage(id, files=["src/app.py"])["unstagedFiles"] == ["src/app.py"]
    assert not git.get_status(id)["hasStagedChanges"]
    assert sorted(git.stage(id, all=True)["stagedFiles"]) == ["b l\u00f6b.txt", "src/app.py"]
    assert sorted(git.unstage(id, all=True)["unstagedFiles"]) == ["b l\u00f6b.txt", "src/app.py"]
    refused(404, git.stage, id, files=["nowhere"])
    assert refused(409, git.commit, id, "Nothing is staged").code == "nothing_to_commit"
    refused(400, git.commit, id, " ")

    first = git.commit(id, "Add the app", files=["src/app.py"])
    assert first["success"] and len(first["sha"]) == 40
    assert first["message"] == f"[main {first['sha'][:7]}] Add the app"
    write(client, id, "src/app.py", "print(2)\n")
    client.files.delete_file(id, "b l\u00f6b.txt")
    assert [(file["path"], file["status"]) for file in git.get_status(id)["changedFiles"]] == [("src/app.py", "modified")]
    second = git.commit(id, "Change the app\n\nFor a reason.", files=["src/app.py"])
    commits = git.list_commits(id)["commits"]
    assert [commit["hash"] for commit in commits] == [second["sha"], first["sha"]]
    assert commits[0]["message"] == "Change the app\n\nFor a reason."
    assert (commits[0]["author"], commits[0]["hash"][:7]) == ("Atelier", commits[0]["shortHash"])
    assert commits[0]["date"].endswith("Z")
    assert len(git.list_commits(id, limit=1)["commits"]) == 1


def test_branches_are_made_listed_and_switched_to(client, repository):
    git, id = client.git, repository
    refused(409, git.create_branch, id, "early")
    write(client, id, "f", "main\n")
    git.commit(id, "One", files=["f"])
    assert git.create_branch(id, "feature/x")["branch"] == "feature/x"
    assert git.list_branches(id)["currentBranch"] == "main"
    assert git.switch_branch(id, "feature/x")["branch"] == "feature/x"
    branches = git.list_branches(id)
    assert branches["currentBranch"] == "feature/x"
    assert branches["branches"] == branches["localBranches"] == ["feature/x", "main"]
    assert branches["remoteBranches"] == []
    write(client, id, "f", "feature\n")
    git.commit(id, "Two", files=["f"])
    git.switch_branch(id, "main")
    assert client.files.get_file(id, "f") == "main\n"
    write(client, id, "f", "mine\n")
    assert refused(409, git.switch_branch, id, "feature/x").code == "would_lose_changes"
    refused(409, git.create_branch, id, "main")
    refused(404, git.switch_branch, id, "nowhere")
    for name in ("", "-f", "--orphan=x", "a b", "a..b", "HEAD", "x.lock"):
        refused(400, git.create_branch, id, name)
        refused(400, git.switch_branch, id, name)


def test_commits_are_pushed_and_cloned(client, repository, sh):
    git, id = client.git, repository
    write(client, id, "f", "1\n")
    sha = git.commit(id, "One", files=["f"])["sha"]
    assert git.get_status(id)["hasUnpushedCommits"]
    pushed = git.push(id)
    assert (pushed["success"], pushed["branch"], pushed["message"]) == (True, "main", "Push successful")
    assert not git.get_status(id)["hasUnpushedCommits"]
    assert git.push(id, branch="main")["message"] == "Everything up-to-date"
    assert git.list_branches(id)["remoteBranches"] == ["origin/main"]
    refused(404, git.push, id, branch="nowhere")

    cloned = git.clone(id, repo_url="/workspace/remote.git", target_path="copies/one", branch="main")
    assert (cloned["success"], cloned["path"], cloned["branch"]) == (True, "copies/one", "main")
    assert client.files.get_file(id, "copies/one/f") == "1\n"
    assert git.list_commits(id, path="copies/one")["commits"][0]["hash"] == sha
    assert refused(409, git.clone, id, repo_url="/workspace/remote.git", target_path="copies/one").code == "target_exists"
    assert git.clone(id, repo_url="/workspace/remote.git")["path"] == "remote"
    write(client, id, "copies/one/f", "theirs\n")
    git.commit(id, "Theirs", path="copies/one", files=["f"])
    git.push(id, path="copies/one")
    write(client, id, "f", "ours\n")
    git.commit(id, "Ours", files=["f"])
    assert refused(409, git.push, id).code == "push_rejected"

    for url in ("", "-x", "--upload-pack=touch /workspace/pwned", "ext::sh -c touch% /workspace/pwned", "http://127.0.0.1/x",
                "http://169.254.169.254/x", "https://localhost/x", "ssh://-oProxyCommand=x/y", "https://example.com/a\nb"):
        refused(400, git.clone, id, repo_url=url)
    refused(400, git.clone, id, repo_url="/workspace/remote.git", target_path="../out")
    # The container has no network: it cannot be reached, and the token is not in what is said about it.
    lost = refused(502, git.clone, id, repo_url="https://example.com/a/b.git", token="s3cret-t0ken")
    assert lost.code == "remote_unreachable" and "s3cret" not in lost.message
    assert "nothing" in sh("grep -rl s3cret-t0ken /workspace /root /tmp 2>/dev/null || echo nothing")


def test_a_github_repository_is_made_ready_and_worked_on_by_a_run(client, environment, sh, installation):
    id = environment["id"]
    assert "seeded" in sh(
        "git config --global user.name Test && git config --global user.email t@t"
        " && git init -q --bare -b main served/o/r.git && git -C served/o/r.git config core.hooksPath hooks"
        " && mv served/o/r.git/hooks/post-update.sample served/o/r.git/hooks/post-update"
        " && git clone -q served/o/r.git seed 2>/dev/null && cd seed && git switch -qc main && echo one > f && git add f"
        " && git commit -qm one && git push -q origin main main:side && echo seeded"
    )
    sh(f"(setsid sh -c '{SERVE}' >/dev/null 2>&1 &) ; sleep 1; echo started")

    def prepared():
        try:
            return client.git.prepare_github(id, repo_full_name="o/r", project_id="project_1")
        except ApiClientError as err:
            assert err.status == 502, err
            return None

    first = eventually("the repository is served", prepared)
    assert (first["success"], first["repoFullName"], first["repoName"]) == (True, "o/r", "r")
    assert (first["path"], first["branch"]) == ("r", "main")
    assert client.files.get_file(id, "r/f") == "one\n"
    sh("cd seed && echo two > f && git commit -qam two && git push -q origin main && echo pushed")
    client.git.prepare_github(id, repo_full_name="o/r", branch="main")
    assert client.files.get_file(id, "r/f") == "two\n"
    assert client.git.prepare_github(id, repo_full_name="o/r", branch="side")["branch"] == "side"
    refused(404, client.git.prepare_github, id, repo_full_name="o/missing")
    refused(404, client.git.prepare_github, id, repo_full_name="o/r", branch="nowhere")
    refused(400, client.git.prepare_github, id, repo_full_name="../r")

    thread = client.threads.create(id)
    result = client.threads.send_message(
        thread["id"],
        content="cat r/f; git -C r branch --show-current #shell",
        github_repo={"repoFullName": "o/r", "branch": "main"},
    )
    assert "two" in result.content and "main" in result.content


def test_older_clients_see_diffs_commit_and_push(http, client, repository):
    """What SDK 2.4 of TypeScript sends."""
    id = repository
    write(client, id, "a.txt", "one\n")
    seen = http.get(f"/git/{id}/diff").json()
    assert seen["stats"] == {"filesChanged": 1, "insertions": 1, "deletions": 0}
    assert (seen["diffs"][0]["path"], seen["diffs"][0]["additions"]) == ("a.txt", 1)
    assert "+one" in seen["diffs"][0]["changes"]
    author = {"name": "Ada", "email": "ada@example.com"}
    made = http.post(f"/git/{id}/commit", json={"message": "One", "author": author}).json()
    commit = made["commit"]
    assert (made["success"], commit["message"], commit["author"], commit["filesChanged"]) == (True, "One", author, 1)
    assert commit["timestamp"].endswith("Z")
    write(client, id, "a.txt", "two\n")
    write(client, id, "b.txt", "b\n")
    some = http.post(f"/git/{id}/commit", json={"message": "Two", "files": ["a.txt"]}).json()["commit"]
    seen = http.get(f"/git/{id}/commits/{some['sha']}/diff").json()
    assert [(diff["path"], diff["additions"], diff["deletions"]) for diff in seen["diffs"]] == [("a.txt", 1, 1)]
    assert "-one\n+two" in seen["diffs"][0]["changes"]
    pushed = http.post(f"/git/{id}/push", json={"remote": "origin", "branch": "main"}).json()
    assert pushed["push"] == {"remote": "origin", "branch": "main", "commits": 2, "url": "/workspace/remote.git"}
    assert http.get(f"/git/{id}/commits/--all/diff").status_code == 400
    assert http.post(f"/git/{id}/push", json={"remote": "https://example.com/x"}).status_code == 404
    for method, path in (("GET", "diff"), ("POST", "commit"), ("POST", "push"), ("GET", "commits/abcdef0/diff")):
        assert http.request(method, f"/git/env_other/{path}", json={"message": "x"}).status_code == 404


def test_a_real_project_of_thousands_of_files(client, http, repository, sh):
    """What a registry ships, laid out by an agent's shell, changed by it, and committed and pushed by a client."""
    id = repository
    cache = pathlib.Path(sys.prefix) / "projects"
    if not list(cache.glob("*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), "Django==5.2"]
        subprocess.run(command, check=True)
    wheel = next(cache.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    assert len(names) > 3000
    client.files.upload_file(id, "project.zip", wheel.read_bytes())
    assert "unpacked" in sh("python3 -m zipfile -e project.zip . && rm project.zip && echo unpacked")
    staged = client.git.stage(id, all=True)["stagedFiles"]
    assert sorted(staged) == sorted(names)
    client.git.commit(id, "Import the project")
    said = sh(
        "sed -i 's/^VERSION = .*/VERSION = (9, 9, 9)/' django/__init__.py && rm django/shortcuts.py"
        " && printf 'def ours():\\n    return 1\\n' > django/ours.py && echo edited"
    )
    assert "edited" in said
    diff = http.get(f"/git/{id}/diff", timeout=60).json()
    assert [entry["path"] for entry in diff["diffs"]] == ["django/__init__.py", "django/ours.py", "django/shortcuts.py"]
    assert "+VERSION = (9, 9, 9)" in diff["diffs"][0]["changes"]
    status = {file["path"]: file["status"] for file in client.git.get_status(id)["changedFiles"]}
    assert status == {"django/__init__.py": "modified", "django/ours.py": "untracked", "django/shortcuts.py": "deleted"}
    client.git.stage(id)
    second = client.git.commit(id, "Edit it")
    pushed = client.git.push(id)
    assert pushed["success"]
    told = sh("git -C remote.git log --format=%H main | head -1; git -C remote.git ls-tree -r --name-only main | wc -l")
    assert second["sha"] in told and str(len(names)) in told
