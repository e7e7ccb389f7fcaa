"""Deep research with the official SDK: a server of its own, whose agents search and read a site on loopback."""

import http.server
import json
import threading

import pytest
from computer_agents import ApiClientError, ComputerAgentsClient

from conftest import Installation, eventually, running


class Site(http.server.BaseHTTPRequestHandler):
    """Two pages and a search engine that finds three."""

    def do_GET(self):
        base = f"http://127.0.0.1:{self.server.server_port}"
        pages = {"/one": "<title>One</title><p>The sky is blue.</p>", "/two": "<title>Two</title><p>It scatters light.</p>"}
        if self.path.startswith("/search"):
            found = [{"url": f"{base}/{name}", "title": name, "content": "x"} for name in ("one", "two", "three")]
            self.answer("application/json", json.dumps({"results": found}))
        elif self.path in pages:
            self.answer("text/html", pages[self.path])
        else:
            self.send_error(404)

    def answer(self, kind, body):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


def rule(contains, blocks, **when):
    return {"when": {"text_contains": contains, **when}, "reply": {"blocks": blocks}}


def text(words):
    return [{"type": "text", "text": words}]


def use(name, **arguments):
    return {"type": "tool_use", "name": name, "input": arguments}


def script(base):
    """What the model answers. The first rule that fits is taken."""
    return {
        "rules": [
            rule("Divide this into", text('{"questions": ["What is light?"]}')),
            rule("The pages that were read:", text(f"# The sky\n\nBlue [1]. [Never read]({base}/three) says more [7].")),
            rule("Your question:", [use("WebSearch", query="light")], round=0),
            rule("Your question:", [use("WebFetch", url=f"{base}/one"), use("WebFetch", url=f"{base}/two")], round=1),
            rule("Your question:", text("The sky is blue."), round=2),
            rule("Why is the sky blue?", [use("DeepResearch", query="Why is the sky blue?")], round=0),
            rule("Why is the sky blue?", text("It is in the report."), round=1),
        ]
    }


class Searching(Installation):
    def __init__(self, directory, base):
        self.base = base
        (directory / "script.json").write_text(json.dumps(script(base)))
        super().__init__(directory)

    @property
    def script(self):
        return self.directory / "script.json"

    def environment(self):
        return super().environment() | {
            "ATELIER_SEARCH__PROVIDER": "searxng",
            "ATELIER_SEARCH__SEARXNG_URL": self.base,
            "ATELIER_SANDBOX__EGRESS_ALLOW": '["127.0.0.1/32"]',
        }


@pytest.fixture(scope="module")
def searching(request):
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    try:
        with running(Searching, request, f"http://127.0.0.1:{site.server_port}") as installation:
            yield installation
    finally:
        site.shutdown()


@pytest.fixture
def client(searching):
    with ComputerAgentsClient(api_key=searching.key, base_url=searching.url) as client:
        yield client


def test_a_message_is_researched_and_its_session_listed_read_and_deleted(client, searching):
    environment = client.environments.create("research", internet_access=True)
    thread = client.threads.create(environment["id"])["id"]
    assert client.threads.list_research(thread) == []
    events = []
    answer = client.threads.send_message(
        thread, content="Why is the sky blue?", research_mode_enabled=True, on_event=events.append
    )
    assert answer.content == "It is in the report."
    told = [event for event in events if event["type"] == "deep_research"]
    assert [event["event"] for event in told] == [
        "started", "planned", "progress", "writing", "verifying", "completed"
    ]  # fmt: skip

    [session] = client.threads.list_research(thread)
    assert (session["status"], session["progress"], session["query"]) == ("completed", 100, "Why is the sky blue?")
    assert session["threadId"] == thread and session["createdAt"] and session["updatedAt"]
    read = client.threads.get_research(thread, session["id"])
    # Both were fetched at once: which of them is the first is left to chance.
    assert [(source["number"], source["isCited"]) for source in read["results"]] == [(1, True), (2, False)]
    assert sorted(source["title"] for source in read["results"]) == ["One", "Two"]
    assert sorted(read["metadata"]["droppedCitations"]) == sorted(["[7]", f"{searching.base}/three"])

    report = client.files.get_file(environment["id"], read["reportPath"])
    assert "Blue [1]. Never read says more ." in report and "## Citations that were dropped" in report
    assert told[-1]["reportFile"] == read["reportPath"] and told[-1]["reportLength"] == len(report)
    manifest = client.files.download_file(environment["id"], read["reportManifestPath"])
    sources = json.loads(manifest)["sources"]
    assert len(sources) == 2 and all(len(source["blake3"]) == 64 for source in sources)

    client.threads.delete_research(thread, session["id"])
    assert client.threads.list_research(thread) == []
    with pytest.raises(ApiClientError) as gone:
        client.threads.get_research(thread, session["id"])
    assert gone.value.status == 404


def test_research_is_refused_where_nobody_can_search(installation):
    with ComputerAgentsClient(api_key=installation.key, base_url=installation.url) as client:
        thread = client.threads.create(client.environments.create("none")["id"])["id"]
        with pytest.raises(ApiClientError) as refused:
            client.threads.send_message(thread, content="Why?", research_mode_enabled=True)
        assert refused.value.status == 400 and "deep_research" in str(refused.value)


def test_nothing_of_it_is_left_running(client, searching):
    eventually("all runs are over", lambda: all(t["status"] != "running" for t in client.threads.list()["data"]))
