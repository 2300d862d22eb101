"""Every benchmark runs and yields numbers. No times are asserted: those belong on a quiet machine."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import pytest

from benchmarks import table
from benchmarks.__main__ import NAMES
from benchmarks.table import Row
from tests.support import ROOT, by_default, environment

_CODE = """
import dataclasses, json, sys
from benchmarks.__main__ import run
rows, where = run(sys.argv[1:], is_quick=True, has_peers=False)
print(json.dumps([dataclasses.asdict(row) for row in rows]))
"""


@pytest.mark.parametrize("name", by_default(NAMES))
def test_a_quick_run_of_a_benchmark_yields_numbers(name: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _CODE, name], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )

    assert run.returncode == 0, run.stderr[-3000:]
    rows = [Row(**fields) for fields in json.loads(run.stdout.splitlines()[-1])]
    if name not in ("dom", "weight") or os.environ.get("CI"):  # skips itself without a browser
        assert rows
    assert all(math.isfinite(row.value) and row.value >= 0 for row in rows), rows


def test_our_rows_are_compared_with_each_named_peer() -> None:
    values = {"jobkit": [1.0, 3.0, 2.0], "a": [4.0], "b": [1.0], "not measured": []}

    rows = table.against("start", values, "ms", {"a": 0.9, "b": 1.0, "not measured": 1.0})

    assert [(row.system, row.value) for row in rows] == [("jobkit", 2.0), ("a", 4.0), ("b", 1.0)]
    assert [row.is_met for row in rows] == [False, None, None]
    assert rows[0].target == "<= 0.9 x a, is 0.50 x; <= 1 x b, is 2.00 x"


def test_tables_have_a_line_for_each_row() -> None:
    rows = [Row("start", "jobkit", 1234.5, "ms", 1.0, 2.0, "<= 1", False), Row("start", "peer", 0.0, "ms")]

    assert table.as_text(rows).splitlines()[1].split()[:4] == ["start", "jobkit", "1,234", "ms"]
    assert table.as_markdown(rows).count("\n") == 3


@pytest.mark.nightly
def test_a_small_fleet_of_workers_that_run_no_code_yields_every_figure() -> None:
    small = ["--workers", "2", "--slots", "2", "--waiting", "20", "--seconds", "1"]
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.fleet", *small], cwd=ROOT, env=environment(), capture_output=True, text=True
    )

    assert run.returncode == 0, run.stderr[-3000:]
    lines = [line.split("|") for line in run.stdout.splitlines() if line.startswith("| ")]
    figures = {name.strip(): float(value.replace(",", "")) for _, name, value, _ in lines[2:]}
    assert figures["connections"] == 10
    assert figures["busy, 0 dashboards: jobs/s"] > 0
