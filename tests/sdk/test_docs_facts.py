"""What the documentation lists is what there is: events, statuses, settings, routes, links, pages."""

import json
import re
import subprocess
import tomllib

import pytest
from conftest import TARGET, program
from pages import PAGES, ROOT

DOCS = {page.name: page.read_text() for page in PAGES}


@pytest.fixture(scope="module")
def document():
    """The OpenAPI document, which the server writes without anything around it."""
    atelier = program("ATELIER_BIN", TARGET / "debug/atelier")
    return json.loads(subprocess.run([atelier, "openapi"], check=True, capture_output=True).stdout)


def first_column(page: str, head: str) -> list[str]:
    """The words in the first column of the table that begins with this head."""
    table = DOCS[page].partition(f"| {head} |")[2].partition("\n\n")[0]
    return [word for row in table.splitlines()[2:] for word in re.findall(r"`([^`]+)`", row.split("|")[1])]


def kinds_of(document, schema: str) -> list[str]:
    """The values of `type` that an object of a schema may have."""
    schema = document["components"]["schemas"][schema]
    return [kind for kind in re.findall(r'"type": \{"type": "string", "enum": \["([^"]+)"\]', json.dumps(schema))]


@pytest.mark.parametrize("head, schema", [("`type`", "StreamEventKind"), ("`tool.type`", "StreamTool")])
def test_every_event_and_tool_is_in_the_page_of_events(document, head, schema):
    assert sorted(first_column("events.md", head)) == sorted(kinds_of(document, schema))


def test_routes_that_pages_name_are_there(document):
    real = {
        (method.upper(), re.sub(r"\{[^}]+\}", "{}", path)) for path, item in document["paths"].items() for method in item
    }
    named = {
        (page, method, path)
        for page, text in DOCS.items()
        for method, path in re.findall(r"\b(GET|POST|PUT|PATCH|DELETE)\s+(?:/v1)?(/[\w{}/.-]*[\w}])", text)
    }
    assert len(named) > 40
    missing = [(page, method, path) for page, method, path in named if (method, re.sub(r"\{[^}]+\}", "{}", path)) not in real]
    assert missing == []


def test_settings_that_pages_name_are_there():
    defaults = tomllib.loads((ROOT / "config/default.toml").read_text())
    named = {
        (page, section, name)
        for page, text in DOCS.items()
        for section, name in re.findall(r"`([a-z]+)\.([a-z_0-9]+)(?: = [^`]*)?`", text)
        if section in defaults and (page, section) != ("webhooks.md", "run")
    }
    assert len(named) > 30
    assert [it for it in named if it[2] not in defaults[it[1]]] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    for link in links:
        path, _, heading = link.partition("#")
        if "://" not in link:
            target = page if path == "" else (page.parent / path).resolve()
            assert target.exists(), link
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE) if heading else []
            assert heading == "" or heading in [re.sub(r"[^\w -]", "", it).lower().replace(" ", "-") for it in headings]


def test_the_readme_names_every_page():
    assert {page.name for page in PAGES[1:]} == set(re.findall(r"\]\(docs/([^)]+)\)", DOCS["README.md"]))
