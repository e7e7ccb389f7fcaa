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


def test_every_status_is_in_the_page_of_errors(document):
    operations = [it for item in document["paths"].values() for it in item.values() if "responses" in it]
    real = {status for operation in operations for status in operation["responses"] if status >= "400"}
    # Of the transport and of git, which the document does not have at each operation.
    assert first_column("errors.md", "Status") == sorted(real | {"405", "408", "504"})


def words(pattern: str, *places: str) -> set[str]:
    """What a pattern finds in the source."""
    files = [file for place in places for file in [ROOT / place, *(ROOT / place).rglob("*.rs")] if file.is_file()]
    return {word for file in files if "test" not in file.name for word in re.findall(pattern, file.read_text())}


def test_every_code_is_in_the_page_of_errors():
    text = DOCS["errors.md"]
    answers, runs = text.partition("## When a run fails")[::2]
    listed = set(re.findall(r"^\| `(\w+)` \| \d", answers, re.MULTILINE))
    status = r'\b(?:with_code|told|conflict)\(\s*(?:StatusCode::\w+,\s*|message,\s*)?"(\w+)"'
    assert listed == words(status, "crates/api/src", "crates/sandbox/src/git")
    of_runs = words(r'\b(?:failed|caused)\(\s*"(\w+)"', "crates/executor/src")
    of_runs |= words(r'=> "(\w+)"', "crates/executor/src/ask.rs")
    of_runs |= words(r'Self::\w+\(_\) => "(\w+)"', "crates/domain/src/limits.rs")
    of_runs |= words(r'code: "(\w+)"\.into', "crates/store/src/leases.rs")
    assert set(re.findall(r"^\| `(\w+)` \|", runs, re.MULTILINE)) - {"code"} == of_runs


def test_every_section_is_in_the_page_of_settings():
    defaults = tomllib.loads((ROOT / "config/default.toml").read_text())
    assert sorted(first_column("configure.md", "Section")) == sorted(defaults)


def test_routes_without_a_key_are_in_the_page_of_security(document):
    open_routes = {
        (method.upper(), path)
        for path, item in document["paths"].items() for method, operation in item.items()
        if operation.get("security") == [{}]
    }
    listed = DOCS["secure.md"].partition("These routes need no key:")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([A-Z]+)\s(/[^`]+)`", listed)) == open_routes


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
    variables = re.compile(r"ATELIER_([A-Z]+)__([A-Z_]+)(?<!_)")
    named |= {(page, *(part.lower() for part in found)) for page, text in DOCS.items() for found in variables.findall(text)}
    named -= {(page, "section", "name") for page in DOCS}
    assert len(named) > 30
    assert [it for it in named if it[2].partition("__")[0] not in defaults[it[1]]] == []


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
