"""docs/serving.md says what the server does: addresses, settings, metrics, events."""

import asyncio
import re
import textwrap
import tomllib
from pathlib import Path

import msgspec
from servers import FakeModel, serving

from kit.environment import Serving
from kit.server.routes import Routes

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")


def test_page_has_every_address(tmp_path):
    async def main() -> list[str]:
        async with serving(FakeModel(), tmp_path) as it:
            return Routes(it.served, it.current, it.metrics).patterns

    addresses = [
        address
        for first in re.findall(r"^\| (`(?:GET|POST) .*?) \|", PAGE, re.MULTILINE)
        for written in re.findall(r"`(\w+ [^`]+)`", first)
        for address in {written.replace("[/versions/V]", ""), re.sub(r"[][]", "", written)}
    ]
    assert sorted(addresses) == asyncio.run(main())


def test_page_has_every_setting_and_its_default():
    block = re.search(r"^    \[serving\]\n(?:    .+\n)+", PAGE, re.MULTILINE)
    assert block is not None
    found = tomllib.loads(textwrap.dedent(block[0]))["serving"]
    assert found | {"name": ""} == msgspec.to_builtins(Serving())


def test_page_has_every_metric(tmp_path):
    async def main() -> set[str]:
        async with serving(FakeModel(), tmp_path) as it:
            families = it.metrics.registry.collect()
            return {f"{each.name}_total" if each.type == "counter" else each.name for each in families}

    rows = [row for row in PAGE.splitlines() if row.startswith("| `kit_")]
    assert {name for row in rows for name in re.findall(r"`(kit_\w+)`", row)} == asyncio.run(main())


def test_page_has_every_event_of_the_log():
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "kit" / "server").glob("*.py"))
    told = set(re.findall(r'\.tell\(\s*"(\w+)"', sources))
    assert told == {"draining", "http", "refused", "renewed", "serving", "stayed", "stopped", "switched"}
    assert all(f"`{event}`" in PAGE for event in told)
