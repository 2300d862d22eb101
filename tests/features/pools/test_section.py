"""Pools on the page of workers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobkit.client.loop import background
from jobkit.features.pools.fleet import PoolSource
from jobkit.features.pools.kit import Pool
from jobkit.features.pools.pool_info import PoolInfo
from jobkit.features.pools.section import ACTIONS, pool_row
from jobkit.features.pools.spec import PoolSpec
from jobkit.features.pools.store import PoolPause, PoolStore, PoolUnit
from jobkit.model.person import Person, Role
from jobkit.ui.access.actions import Actions
from jobkit.ui.workers.workers_page import picture
from tests.support import wait_until
from tests.ui.conftest import Window
from tests.ui.stage import Stage

SPEC = PoolSpec(name="gpu", engine="slurm", queues=("gpu",), max=20)


def row(*units: PoolUnit, **state: Any) -> dict[str, Any]:
    info = PoolInfo(**{"name": "gpu", "spec": SPEC, "manager": "head", "now_ms": 1_000_000, "units": units, **state})
    return pool_row(info)


def unit(n: int, phase: str = "pending", **facts: Any) -> PoolUnit:
    return PoolUnit(**{"unit": f"gpu-{n}", "id": f"4711_{n}", "phase": phase, **facts})


def test_units_that_wait_for_the_same_reason_are_one_line() -> None:
    shown = row(*(unit(n, reason="PENDING (Priority)") for n in range(12)), unit(12, reason="PENDING (Resources)"))

    assert [(line["unit"], line["id"], line["text"], line["count"]) for line in shown["units"]] == [
        ("gpu-0", "slurm 4711_0", "PENDING (Priority)", 12),
        ("gpu-12", "slurm 4711_12", "PENDING (Resources)", 1),
    ]


def test_units_whose_workers_run_are_not_listed_and_many_reasons_are_bounded() -> None:
    shown = row(unit(0, "up"), *(unit(n, reason=f"because of {n}") for n in range(1, 31)))

    assert (len(shown["units"]), shown["more"]) == (8, 22)
    assert "gpu-0" not in str(shown["units"])


def test_units_that_failed_are_listed_newest_first_and_those_that_were_stopped_are_not() -> None:
    shown = row(
        unit(0, "ended", error="No space left"),
        unit(1, "ended", error="Permission denied"),
        unit(2, "ended", error="asked to end", stopped_ms=5),
        unit(3, "ended"),
    )

    assert [line["text"] for line in shown["units"]] == ["Permission denied", "No space left"]


def test_a_pool_says_its_state_and_what_it_costs() -> None:
    pause = PoolPause("ada", 400_000, "maintenance")

    assert row(worker_s=44_640.0)["worker_hours"] == 12.4
    assert (row()["state"], row()["sentence"]) == ("active", "")
    assert row(paused=pause)["sentence"].startswith("paused by ada since 10 m 00 s: maintenance")
    assert (row(manager="")["state"], row(error="sbatch refused: x")["state"]) == ("unmanaged", "failing")


def test_a_pool_that_cannot_be_read_here_is_shown_with_the_reason() -> None:
    shown = row(spec=None, error="the definition of pool gpu was not signed with the JOBKIT_SECRET of this process")

    assert (shown["state"], shown["max"], shown["about"]) == ("failing", 0, "")
    assert "not signed" in shown["sentence"]


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        (Role.VIEW, set()),
        (Role.OWN, set()),
        (Role.OPERATE, {"pause_pool", "resume_pool"}),
        (Role.ADMIN, {*ACTIONS}),
    ],
)
def test_pools_are_paused_by_operators_and_scaled_and_drained_by_admins(
    stage: Stage, role: Role, allowed: set[str]
) -> None:
    access = Actions(stage.kit, Person("eve", role))

    assert {name for name in ACTIONS if access.may(name)} == allowed


@pytest.mark.parametrize(
    ("action", "details", "said"),
    [
        ("scale_pool", {"workers": "many"}, "the number of workers must be a whole number, not 'many'"),
        ("scale_pool", {"workers": "1e9"}, "the number of workers must be a whole number, not '1e9'"),
        ("scale_pool", {"workers": "-1"}, "n must be a whole number from 0 to 20, the max of pool gpu, not -1"),
        ("scale_pool", {"workers": 3}, "pool gpu was scaled to 3 workers"),
        ("scale_pool", {"workers": ""}, "pool gpu was left to its autoscaler"),
        ("resume_pool", {}, "pool gpu is not paused"),
        ("drain_pool", {}, "pool gpu was drained: 0 workers end when their jobs have ended"),
    ],
)
def test_each_action_on_a_pool_answers_with_one_sentence(
    stage: Stage, action: str, details: dict[str, Any], said: str
) -> None:
    background.call(stage.store.part(PoolStore).put("gpu", SPEC.sealed(stage.kit.codec)))

    reply = asyncio.run(Actions(stage.kit, Person("ada", Role.ADMIN)).act(action, ["gpu"], **details))

    assert reply.sentence == said


def test_a_pool_that_does_not_exist_is_refused(stage: Stage) -> None:
    reply = asyncio.run(Actions(stage.kit, Person("ada", Role.ADMIN)).act("pause_pool", ["x"]))

    assert reply.sentence == "there is no pool 'x'; there are none"


def test_what_a_store_says_of_a_unit_is_no_html(stage: Stage) -> None:
    told = PoolInfo(name="gpu", spec=SPEC, units=(PoolUnit(unit="<b>", phase="<i>", host="<u>", reason="<s>"),))

    shown = Pool(stage.kit.pools.verbs, stage.kit.connection, told)._repr_html_()

    assert not any(tag in shown for tag in ("<b><", "<i>", "<u>", "<s>"))


def test_a_queue_with_a_pool_needs_no_worker_that_is_started_by_hand() -> None:
    spec = PoolSpec(name="gpu", engine="slurm", queues=("gpu",), max=2)
    lines = {"gpu": {"queued": 3, "scheduled": 0, "running": 0, "workers": 0}}
    paused = PoolInfo(name="gpu", spec=spec, manager="head", paused=PoolPause("ada", 0, ""))

    shown = picture([], lines, [], sources=[PoolSource([paused])], sections={"pools": [pool_row(paused)]})

    assert shown["queues"][0]["why"][0]["text"].startswith("pool gpu: paused by ada since")
    assert [row["name"] for row in shown["sections"]["pools"]] == ["gpu"]


@pytest.mark.nightly
@pytest.mark.browser
def test_a_pool_is_paused_scaled_and_drained(stage: Stage, url: str, window: Window) -> None:
    spec = PoolSpec(name="gpu", engine="local", queues=("gpu",), max=4)
    background.call(stage.store.part(PoolStore).put("gpu", spec.sealed(stage.kit.codec)))
    stage.beat("gpu-1", "gpu")
    page = window.open(f"{url}?page=workers")
    page.wait_for_selector(".pool:has-text('0 to 4 workers on local')")

    page.click(".pool button:has-text('Pause')")
    page.wait_for_selector(".pool .chip:has-text('Paused')")
    page.click(".pool button:has-text('Scale…')")
    page.fill(".pool input", "9")
    page.keyboard.press("Enter")
    page.wait_for_selector(".notice:has-text('n must be a whole number from 0 to 4')")
    page.click(".pool button:has-text('Scale…')")
    page.fill(".pool input", "3")
    page.click(".pool button:has-text('Set')")
    page.wait_for_selector(".pool button:has-text('Fixed at 3…')")
    page.click(".pool button:has-text('Drain…')")
    page.click(".pool button:has-text('End all when idle')")

    def asked() -> list[tuple[str, str]]:
        return [(entry.action, entry.outcome) for entry in stage.kit.audit() if entry.on == "pool"]

    wait_until(lambda: ("drain_pool", "done") in asked(), what="the request")
    assert asked()[-1] == ("pause_pool", "done")
    assert ("scale_pool", "failed") in asked()
