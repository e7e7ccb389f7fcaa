"""The documentation as a test sees it: its fenced blocks, and what they say that comes out."""

import fnmatch
import json
import pathlib
import re
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = ("sh", "python", "typescript", "toml", "json", "text")


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str
    # A block of `text` right below one that is executed: what that one writes.
    output: str = ""

    def __str__(self):
        return f"{self.page}:{self.line}"

    @property
    def first_line(self) -> str:
        return self.text.partition("\n")[0]

    @property
    def answers(self) -> list:
        """The answers that it shows in comments, one JSON value for each."""
        return [like_json(line[2:]) for line in self.text.splitlines() if line.startswith("# {")]


def blocks_of(page: pathlib.Path) -> list[Block]:
    found = []
    fences = re.finditer(r"^```(\w*)\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", page.read_text(), re.MULTILINE | re.DOTALL)
    for fence in fences:
        line = page.read_text()[: fence.start()].count("\n") + 2
        found.append(Block(page.name, line, fence[1], fence[2], fence[3] or ""))
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def like_json(text: str):
    """Reads JSON in which `…` stands for what is left out: members, elements, or a part of a text."""
    text = re.sub(r",\s*…\s*(?=[}\]])", "", text)
    text = re.sub(r"([{\[])\s*…\s*(?=[}\]])", r"\1", text)
    return json.loads(text)


def is_like(shown, real) -> bool:
    """Tells whether an answer has all that is shown of it. Numbers and times may be others."""
    match shown:
        case dict():
            return isinstance(real, dict) and all(name in real and is_like(shown[name], real[name]) for name in shown)
        case list():
            return isinstance(real, list) and all(any(is_like(one, other) for other in real) for one in shown)
        case str() if isinstance(real, str):
            return fnmatch.fnmatchcase(real, shown.replace("[", "[[]").replace("?", "[?]").replace("…", "*"))
        case bool() | None | str():
            return shown == real
        case _:
            return isinstance(real, (int, float)) and not isinstance(real, bool)


def json_values(output: str) -> list:
    """All JSON objects that stand in an output, one after the other."""
    values, at, decoder = [], 0, json.JSONDecoder()
    while (at := output.find("{", at)) >= 0:
        try:
            value, at = decoder.raw_decode(output, at)
            values.append(value)
        except ValueError:
            at += 1
    return values


def lines_in_order(shown: str, output: str) -> str | None:
    """Gives the first line that is shown and does not come in the output, in which there may be others between."""
    lines = iter(output.splitlines())
    for wanted in shown.splitlines():
        if wanted.strip() not in ("", "…") and not any(is_like(wanted, line) for line in lines):
            return wanted
    return None
