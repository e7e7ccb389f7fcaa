"""Everything that the documentation shows is done: each fenced block of `docs/` and the README is a test case.

`sh`, `python` and `typescript` blocks run against an installation of their own (`documented.py`). Those of one page in Python or
TypeScript are one program, in their order. `toml` blocks are settings that `atelier config` takes. Answers that a block shows (a
comment with JSON, a `text` block right below it) are compared with the real ones. What cannot be done in a test is in
`ELSEWHERE`, with who does it instead.
"""

import re
import subprocess
import sys
import tomllib

import pytest
from conftest import running
from documented import Documented
from pages import BLOCKS, LANGUAGES, PAGES, is_like, json_values, like_json, lines_in_order

# By page and first line.
ELSEWHERE = {
    ("README.md", "make up"): "installs packages and builds a release; what it starts is what these tests start",
    ("README.md", "make down"): "ends what `make up` has started; test_system.py and tests/it/lifecycle.rs have `atelier down`",
    ("README.md", "make check"): "the tests themselves, and what comes beside them",
    ("install.md", "cp docker/env.example docker/.env"): "builds three images for many minutes; scripts/try-compose.sh does it",
}


def is_elsewhere(block):
    return any(block.page == page and block.first_line.startswith(line) for page, line in ELSEWHERE)


def of(language: str):
    blocks = [block for block in BLOCKS if block.language == language and not is_elsewhere(block)]
    return pytest.mark.parametrize("block", blocks, ids=str)


@pytest.fixture(scope="module")
def documented(request):
    with running(Documented, request) as documented:
        yield documented


def check_answers(block, output):
    """Everything that the block shows has come."""
    real = json_values(output)
    for shown in block.answers:
        assert any(is_like(shown, value) for value in real), f"{block} shows {shown}, and this came:\n{output}"
    missing = lines_in_order(block.output, output)
    assert missing is None, f"below {block} there is {missing!r}, and this came:\n{output}"


class Programs:
    """The programs of the pages, each run once: what every block of one has written."""

    def __init__(self, documented):
        self.documented = documented
        self.outputs = {}

    def output(self, block) -> str:
        key = (block.page, block.language)
        if key not in self.outputs:
            self.outputs[key] = self.run([other for other in BLOCKS if (other.page, other.language) == key])
        reached, said = self.outputs[key]
        assert str(block) in reached, f"{block} was not reached: {said}"
        assert reached[str(block)] is not None, f"{block} failed: {said}"
        return reached[str(block)]

    def run(self, blocks):
        say = {"python": "print({!r}, flush=True)", "typescript": "console.log({!r});"}[blocks[0].language]
        marks = [f"--- {block}" for block in blocks] + ["--- the end"]
        program = "\n".join(f"{say.format(mark)}\n{block.text}" for mark, block in zip(marks, blocks))
        program = self.documented.here(f"{program}\n{say.format(marks[-1])}\n")
        run = {"python": self.run_python, "typescript": self.run_typescript}[blocks[0].language]
        done = run(program)
        assert (done.returncode == 0) == (marks[-1] in done.stdout.splitlines()), done.stderr
        parts = re.split(r"^--- (.+)\n", done.stdout, flags=re.MULTILINE)[1:]
        reached = dict(zip(parts[::2], parts[1::2]))
        if done.returncode != 0:
            reached[list(reached)[-1]] = None
        return reached, done.stderr

    def run_python(self, program):
        return self.documented.run([sys.executable, "-"], program, input=program)

    def run_typescript(self, program):
        """With the Node.js of the image that agents work in, which every machine has that runs these tests."""
        variables = [f"--env={name}={value}" for name, value in self.documented.variables(program).items()]
        image = ["atelier-workspace:latest", "node", "--input-type=module", "-"]
        command = ["docker", "run", "--rm", "--interactive", "--network=host", "--entrypoint=", *variables, *image]
        return subprocess.run(command, input=program, capture_output=True, text=True, timeout=100)


@pytest.fixture(scope="module")
def programs(documented):
    return Programs(documented)


@of("python")
def test_a_python_program(programs, block):
    check_answers(block, programs.output(block))


@of("typescript")
def test_a_typescript_program(programs, block):
    check_answers(block, programs.output(block))


# After the programs: what would tell others (the page of webhooks, the last one) has nothing to tell here.
@of("sh")
def test_a_command(documented, block):
    # One that shows a refusal is meant to be refused.
    fails = "" if any("error" in answer for answer in block.answers) else "--fail-with-body"
    command = ["bash", "-euo", "pipefail", "-c", documented.here(block.text)]
    done = documented.run(command, block.text, environment={"CURL_FAILS": fails})
    assert done.returncode == 0, f"{block} ends with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    assert "event: stream.error" not in done.stdout
    check_answers(block, done.stdout)


@of("toml")
def test_settings(documented, block):
    file = documented.directory / "settings.toml"
    file.write_text(block.text)
    shown = documented.run(["atelier", "config", "--config", str(file)], block.text)
    assert shown.returncode == 0, f"{block}: {shown.stderr}"
    for section, settings in tomllib.loads(block.text).items():
        of_section = shown.stdout.partition(f"[{section}")[2]
        for name in settings:
            assert re.search(rf"^(\[{section}\.|\.)?{name}\b", of_section, re.MULTILINE), f"{block}: {section}.{name}"


@of("json")
def test_an_object(block):
    assert like_json(block.text)


def test_every_block_is_a_case():
    fences = sum(len(re.findall(r"^\s*```", page.read_text(), re.MULTILINE)) for page in PAGES)
    assert fences == 2 * len(BLOCKS) + 2 * sum(block.output != "" for block in BLOCKS)
    assert {block.language for block in BLOCKS} <= set(LANGUAGES)


@pytest.mark.parametrize("page, line", ELSEWHERE)
def test_what_is_done_elsewhere_is_still_there(page, line):
    assert sum(block.page == page and block.first_line.startswith(line) for block in BLOCKS) == 1
