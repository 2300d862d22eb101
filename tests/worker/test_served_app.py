"""Functions and classes of an app that `panel serve` runs are jobs, as those of a notebook are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx

from tests.support import PATIENCE_S, environment, free_port, listens, wait_until
from tests.worker.conftest import Bench

APP = """
import json
from dataclasses import dataclass
from pathlib import Path

import panel as pn
import jobkit


def helper(x):
    return 2 * x


def double(x):
    return helper(x)


@jobkit.task
def triple(x: int) -> int:
    return helper(x) + x


@dataclass
class Point:
    x: int

    def moved(self):
        return Point(helper(self.x))


with jobkit.connect() as kit, kit.executor() as executor:
    batch = kit.map(double, [1, 2])
    jobs = [kit.submit(double, 2), kit.submit(lambda x: helper(x), 3), triple.submit(2), kit.submit(Point(4).moved)]
    future = executor.submit(double, 5)
    *numbers, point = [job.result(timeout=60) for job in jobs]
    found = [batch.results().value.tolist(), *numbers, point.x, type(point) is Point, future.result(60)]
with Path("found.jsonl").open("a") as file:
    file.write(json.dumps([type(point).__module__[:9], found]) + "\\n")
pn.Column("done").servable()
"""


def test_functions_of_a_served_app_are_jobs_in_each_of_its_sessions(bench: Bench, tmp_path: Path) -> None:
    bench.worker()
    (tmp_path / "app.py").write_text(APP)
    port = free_port()
    variables = environment(**{f"JOBKIT_{name.upper()}": value for name, value in bench.place.items()})
    argv = [sys.executable, "-m", "panel", "serve", "app.py", "--port", str(port), "--address", "127.0.0.1"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=tmp_path, env=variables, stdout=log, stderr=log)
    try:
        wait_until(lambda: listens(port), what="Panel's server")
        for _ in range(2):
            page = httpx.get(f"http://127.0.0.1:{port}/app", trust_env=False, timeout=PATIENCE_S)
            assert page.status_code == 200
        found = tmp_path / "found.jsonl"
        told = (tmp_path / "log").read_text()
        assert found.exists(), told
        assert [json.loads(line) for line in found.read_text().splitlines()] == 2 * [
            ["bokeh_app", [[2, 4], 4, 6, 6, 8, True, 10]]
        ], told
    finally:
        process.terminate()
        process.wait(60)
