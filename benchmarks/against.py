"""Measure ferrows as it is here against what it was: ``python -m benchmarks.against COMMIT [--page PAGE]``.

The other commit is checked out and built under ``target/against``. Both are put to the main scenarios in one run and
take turns, so that what the machine does at the time falls out of their ratio. The applications are those of this
checkout.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks.page import inserted, table
from benchmarks.payloads import write_payloads
from benchmarks.render import extent, metrics_of, number, rounds_of
from benchmarks.results import Run as Results
from benchmarks.run import RESULTS, Run, add_options, matching
from benchmarks.scenarios import quick
from benchmarks.servers import ROOT, SERVERS, python

FOLDER: Final = ROOT / "target" / "against"
BEFORE: Final = "ferrows, before"
AFTER: Final = SERVERS[0].name
TARGET: Final = "bench-against"
"""The target of make that rewrites a part of the page."""


def main() -> int:
    """Build, measure, print the table, and put it between the markers of the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against")
    parser.add_argument("commit", help="what is compared with: a commit, a tag or a branch")
    parser.add_argument("--page", type=Path, help="the page to rewrite between its markers")
    add_options(parser)
    parser.set_defaults(rounds=25, quick=True, output=RESULTS / "against.json")
    arguments = parser.parse_args()
    commit = git("rev-parse", "--short=12", arguments.commit)
    servers = [SERVERS[0], replace(SERVERS[0], name=BEFORE, checkout=built(commit))]
    run = Run(arguments, matching(quick(), arguments.scenarios), servers)
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        run.measure(write_payloads(FOLDER))
    finally:
        run.save()
    text = report(Results(run.document), commit)
    print(text)
    if arguments.page:
        arguments.page.write_text(inserted(arguments.page.read_text("utf-8"), text, TARGET), "utf-8")
    return int(any(measurement["error"] for measurement in run.document["measurements"]))


def built(commit: str) -> Path:
    """Return a checkout of the commit with its extension in it."""
    checkout = FOLDER / commit
    if not checkout.exists():
        git("worktree", "prune")
        git("worktree", "add", "--detach", str(checkout), commit)
    command = ["cargo", "build", "--release", "-p", "ferrows-bindings", "--target-dir", str(FOLDER / "build")]
    subprocess.run(command, cwd=checkout, check=True, env={**os.environ, "PYO3_PYTHON": python()})
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    shutil.copy(FOLDER / "build" / "release" / "lib_core.so", checkout / "python" / "ferrows" / f"_core{suffix}")
    return checkout


def report(run: Results, commit: str) -> str:
    """Return the table: what a scenario costs before and after, and the ratio within a round."""
    rows = []
    for scenario in run.scenarios.values():
        metric = metrics_of(scenario)[0]
        before, after = (run.spread(scenario.name, name, metric) for name in (BEFORE, AFTER))
        ratio = run.ratio(scenario.name, AFTER, BEFORE, metric)
        smallest = after.low / before.low if before and after else None
        figures = [spread.median if spread else None for spread in (before, after, ratio)]
        cells = [*map(number, figures), extent(ratio), number(smallest)]
        rows.append((scenario.title, metric.title, *cells))
    document = run.document
    now = f"{document['ferrows']['commit'][:12]}{', with changes' if document['ferrows']['modified'] else ''}"
    rounds = max(rounds_of(run, scenario) for scenario in run.scenarios.values())
    head = ("", "", f"before, {commit}", f"after, {now}", "ratio", "min-max", "of the smallest")
    note = (
        f"{document['started'][:10]}, {document['host']['python']}, uvloop; {rounds} rounds, the two in turn. Medians, "
        "but for the last column: what else the machine does can only raise a figure, so that the smallest have least "
        "of it."
    )
    return f"{table(head, rows)}\n\n{note}"


def git(*arguments: str) -> str:
    """Run git in the checkout, or exit with what it says."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr.strip())
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
