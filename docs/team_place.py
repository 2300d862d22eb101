"""A place as a team has it, with real workers: sweeps, a report each night, failures, jobs that wait, and a dashboard.

`make_screenshots.py` makes its pictures there, and asks it the questions of `tests/ui/questions.py`.
"""

from __future__ import annotations

import logging
import math
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import jobkit

ROOT = Path(__file__).parent.parent


@jobkit.task
def train(
    lr: Annotated[float, jobkit.Range(1e-5, 1.0)] = 0.01,
    width: Annotated[int, jobkit.Range(8, 4096)] = 64,
    epochs: int = 30,
    seed: int = 0,
    pause_s: float = 0.0,
) -> dict[str, float]:
    """Train a model"""
    noise = random.Random(f"{lr} {width} {seed}")
    floor = 0.08 + 0.05 * abs(math.log10(lr) + 2) + 2 / width
    loss = 1.0
    for epoch in jobkit.progress(range(epochs), desc="epochs"):
        time.sleep(pause_s)
        if lr == 0.1 and seed % 12 == 7 and epoch == 8:
            raise FloatingPointError("loss is nan")
        loss = floor + (1 - floor) * math.exp(-epoch / 12) + 0.01 * noise.random()
        jobkit.log_metrics(epoch, **{"train/loss": loss, "val/loss": 1.1 * loss + 0.01 * noise.random()})
        print(f"epoch {epoch}: loss {loss:.4f}")
    return {"accuracy": round(1 - loss / 2, 4), "loss": round(loss, 4)}


@jobkit.task(retries=2, backoff=0)
def report(region: str, day: str = "2026-11-26") -> int:
    """Nightly report"""
    logging.getLogger("report").info("reading the orders of %s", region)
    orders = {"Lisbon": {}, "Oslo": {"orders": 12}}.get(region, {"orders": 40})
    if region == "Turin" and jobkit.current().attempt == 1:
        logging.getLogger("report").error("the orders of %s cannot be read", region)
        raise OSError("the disk did not answer")
    return orders["orders"]


@jobkit.task(concurrency=1)
def solve(model: str = "grid-7", steps: int = 4000) -> int:
    """Solve with the licensed solver"""
    for _ in jobkit.progress(range(steps)):
        time.sleep(0.1)
    return steps


@jobkit.task
async def score(customer: int) -> float:
    """Score a customer"""
    return round(random.Random(customer).random(), 3)


@jobkit.task
def check_data(days: int = 24) -> None:
    """Check the data of each day"""
    for day in range(1, days + 1):
        print(f"2026-11-{day:02} \x1b[32mpassed\x1b[0m \x1b[2m{1000 + 37 * day:,} rows\x1b[0m")
        if day % 8 == 5:
            logging.getLogger("data").warning("2026-11-%02d has gaps: station 4 sent nothing for 3 h", day)
        if day == 11 and jobkit.current().attempt == 1:
            logging.getLogger("data").error("2026-11-11 cannot be read")
            raise OSError("the disk did not answer")
        time.sleep(0.05)
    print("\x1b[1;36mall days are checked\x1b[0m")


@contextmanager
def served(jobs: int) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the address of the dashboard of a place with about so many jobs, and `Walk.ids` of it."""
    folder = tempfile.mkdtemp(prefix="jk-", dir="/tmp")
    home = f"{folder}/jobkit"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mine = {"JOBKIT_HOME": home, "JOBKIT_TASKS": "team_place,jobkit.demo", "PYTHONPATH": str(ROOT / "docs")}
    os.environ.update(mine)
    words = ["-m", "jobkit", "dashboard", "--port", str(port)]
    server = subprocess.Popen([sys.executable, *words], cwd=folder, stdout=subprocess.DEVNULL)
    try:
        ids = fill(home, jobs)
        yield f"http://localhost:{port}/app", ids
        with member("ada", home) as kit:
            for job in kit.jobs(state=["running", "queued", "scheduled"], limit=1000):
                job.cancel()
    finally:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(20)
        server.kill()
        subprocess.run([sys.executable, "-m", "jobkit", "down", "--now"], cwd=folder, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def member(name: str, home: str) -> jobkit.Kit:
    """Connect as a member of the team."""
    os.environ["LOGNAME"] = name
    return jobkit.connect(home=home)


def until(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.1)


def fill(home: str, jobs: int) -> dict[str, str]:
    """Have about so many jobs run, some fail, some wait; return the ids of what can be asked for."""
    import jobkit.demo as demo

    ids: dict[str, str] = {}
    everyone = [member(name, home) for name in ("ada", "ben", "chen", "dora")]
    ada, ben, chen, dora = everyone
    batches = [
        dora.map(score, [{"customer": n} for n in range(start, start + 250)]) for start in range(0, jobs // 2, 250)
    ]
    singles = [dora.submit(score, customer=n) for n in range(jobs // 3)]
    sweep = ben.sweep(
        train, lr=[0.001, 0.003, 0.01, 0.03, 0.1], width=[32, 64, 128, 256], seed=[*range(max(2, jobs // 200))]
    )
    regions = ["Athens", "Bern", "Cork", "Lisbon", "Oslo", "Porto", "Turin", "Wien"]
    reports = [chen.submit(report, region=region) for region in regions]
    runs = [ada.submit(train, lr=lr, width=64, epochs=30) for lr in (0.1, 0.01)]
    ended: list[Any] = [
        ada.submit(demo.cross_validate),
        ada.submit(demo.estimate_pi),
        ada.submit(demo.mandelbrot, fail_at=40),
    ]
    log = ada.options(retries=1).submit(check_data)
    for each in (*batches, sweep, *singles, *reports, *runs, *ended, log):
        each.wait(600)
    chen.get(reports[3].id).retry().wait(60)
    ben.options(delay=900).submit(demo.count_words)
    chen.schedule(report, {"region": "Wien"}, cron="0 3 * * *", name="nightly-report")
    ada.schedule(demo.estimate_pi, {"points": 2_000_000}, every=3600, name="hourly-estimate")
    wrong = ben.submit(train, lr=0.5, epochs=4000, pause_s=0.2)
    until(lambda: (wrong.progress or 0) > 0)
    os.environ["LOGNAME"] = "chen"
    chen.get(wrong.id).cancel(reason="wrong learning rate")
    wrong.wait(60)
    shown, solving = ada.submit(train, lr=0.02, epochs=900, pause_s=0.4), ben.submit(solve)
    waits = [ada.submit(solve, model="grid-8"), ben.submit(solve, model="grid-9")]
    dora.options(queue="gpu").map(train, [{"seed": n, "epochs": 200} for n in range(jobs // 16)])
    until(lambda: (shown.progress or 0) > 0.02 and (solving.progress or 0) > 0)
    ids |= {"job": shown.id, "waits": waits[0].id, "log": log.id, "batch": sweep.id, "ended": runs[1].id}
    ids |= {"why": "waits for a place of task solve", "takes": "left"}
    ids |= {"failed": reports[3].id, "before": runs[0].id, "cancelled": wrong.id, "group": chen.failures()[0].id}
    for kit in everyone:
        kit.close()
    return ids
