"""Every Python block of the documentation runs: names, options and signatures in it are the real ones."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

import ferrows
from ferrows import App

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def blocks() -> list[Any]:
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for match in PYTHON.finditer(text):
            line = text.count("\n", 0, match.start(1)) + 1
            # The line numbers of a traceback are then those of the page.
            found.append(pytest.param(page, "\n" * (line - 1) + match[1], id=f"{page.name}:{line}"))
    return found


@pytest.mark.parametrize(("page", "source"), blocks())
async def test_block_runs(
    page: Path, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run a block as a module, with what its page says is left out; the server is not started."""
    started = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(App, "run", lambda app, *args, **options: started.append((args, options)))
    namespace = {
        "__name__": "__main__",
        "App": ferrows.App,
        "Blueprint": ferrows.Blueprint,
        "HTTPResponse": ferrows.response.HTTPResponse,
        "Request": ferrows.Request,
        "Websocket": ferrows.Websocket,
        "app": App("docs"),
        "asyncio": asyncio,
    }
    exec(compile(source, str(page), "exec"), namespace)
    assert capsys.readouterr().out.splitlines() == re.findall(r"print\(.*\)  # (.*)", source)
    assert len(started) == source.count("app.run(") + source.count("serve_asgi(")


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


def test_configuration_page_names_every_key_and_its_default() -> None:
    rows = re.findall(
        r"^\| `([A-Z_]+)` \| ([^|]+) \|", (ROOT / "docs" / "configuration.md").read_text("utf-8"), re.MULTILINE
    )
    documented = {key: eval(default.split(" (")[0].strip().strip("`")) for key, default in rows}
    assert documented == dict(ferrows.Config(env_prefix=None))


def test_every_example_is_named_in_the_documentation() -> None:
    text = "".join(page.read_text("utf-8") for page in PAGES)
    for example in (ROOT / "examples").glob("*.py"):
        assert example.name in text
