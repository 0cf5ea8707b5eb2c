"""The pages that users read: README.md and docs/, as texts, and what stands in them."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = {path.name: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]}

_COMMAND = re.compile(r"^ {4}(?:\$ )?(kit .+?)(?:\s+#.*)?$", re.MULTILINE)
_INNER = re.compile(r"\$\(([^)]+)\)")


def section_of(page: str, heading: str) -> str:
    """A page's section, its heading left out."""
    return re.split(rf"^#+ {re.escape(heading)}\n", PAGES[page], flags=re.MULTILINE)[1].split("\n## ")[0]


def first_column(text: str) -> list[str]:
    """What stands in backquotes in the first column of a text's tables, in order."""
    return re.findall(r"`([^`]+)`", "\n".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)))


def block_after(page: str, first_line: str) -> str:
    """The lines below a line of an indented block, without their indentation, up to the block's end or its next command."""
    lines = PAGES[page].split(f"    {first_line}\n")[1].splitlines()
    inside = next(n for n, line in enumerate([*lines, "end"]) if line and not line.startswith("    "))
    block = [line[4:] for line in lines[:inside]]
    end = next((n for n, line in enumerate(block) if line.startswith("$ ")), len(block))
    return "\n".join(block[:end]).rstrip()


def list_commands(page: str) -> list[list[str]]:
    """Each `kit …` of a page's indented blocks, as words without the first; one within another stands before it."""
    text = re.sub(r" \\\n\s+", " ", PAGES[page])
    found = []
    for line in _COMMAND.findall(text):
        found += [shlex.split(inner)[1:] for inner in _INNER.findall(line) if inner.startswith("kit ")]
        found.append(shlex.split(_INNER.sub("RECORD", line))[1:])
    return found
