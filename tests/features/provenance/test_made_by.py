"""`job.made_by`: what made a result, with real workers."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest

import jobkit
from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.ui.notebook import JobDisplay
from tests.support import wait_until


def test_a_job_names_its_submitter_and_its_worker(kit: Kit) -> None:
    job = kit.options(seed=7).submit(len, "abc")
    job.wait(60)

    made = wait_until(lambda: job.made_by if job.made_by.ran_on is not None else None)

    assert made.submitted_from is not None
    assert made.submitted_from.facts.host == made.host == os.uname().nodename
    assert made.packages["numpy"] == np.__version__
    assert len(made.commit) in (0, 40)  # 0 outside of a repository
    assert made.seed == 7
    assert made.mismatches == []
    assert "Seed            7" in str(made)
    assert made.to_json()["ran_on"]["packages"]["numpy"] == np.__version__


def test_a_rerun_of_the_same_job_was_made_by_the_same(kit: Kit) -> None:
    job = kit.submit(len, "abc")
    job.wait(60)
    again = job.rerun()
    again.wait(60)

    wait_until(lambda: again.made_by.ran_on is not None)
    assert job.made_by.differences(again.made_by) == []
    assert job.made_by.differences(kit.options(seed=1).submit(len, "abc").made_by)[-1] == "seed none → 1"


def test_a_submit_of_a_coroutine_names_its_facts(kit: Kit) -> None:
    async def submitted() -> str:
        job = await kit.aio.submit(len, "abc")
        return str(job.snapshot.spec.made)

    name = asyncio.run(submitted())
    assert name == kit.submit(len, "abc").snapshot.spec.made != ""


def test_what_made_a_cached_result_made_this_one(kit: Kit) -> None:
    @jobkit.task(name="cached-seeded", cache=60, seed=True)
    def cached(n: int) -> int:
        return n

    first = kit.submit(cached, 1)
    first.wait(60)
    second = kit.submit(cached, 1)

    assert second.snapshot.cached_from == first.id
    assert second.made_by.seed == first.made_by.seed


def test_a_cached_result_does_not_show_the_changes_and_variables_of_its_other_owner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @jobkit.task(name="cached-of-ada", cache=60)
    def cached(n: int) -> int:
        return n

    monkeypatch.setenv("LAB_NAME", "the lab of ada")
    with jobkit.connect("sync://", made_env="LAB_*") as kit:
        origins = [
            kit.submit_info("cached-of-ada", {"n": 1}, owner=owner).made_by.submitted_from
            for owner in ("ada", "ada", "bob")
        ]

    first, second, of_bob = [origin for origin in origins if origin is not None]
    assert first.facts.env == second.facts.env == {"LAB_NAME": "the lab of ada"}
    assert (of_bob.facts.env, of_bob.facts.program, of_bob.diff) == ({}, "", "")
    assert of_bob.facts.git is None or of_bob.facts.git.changed == ()
    assert of_bob.packages == first.packages


def test_facts_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    with jobkit.connect("sync://", made_by="off") as kit:
        job = kit.submit(len, "abc")

        assert job.snapshot.spec.made == ""
        assert job.made_by.submitted_from is None
        assert str(job.made_by) == "nothing is known"


def test_a_saved_card_and_a_report_tell_what_made_the_result(tmp_path: Path) -> None:
    with jobkit.connect("sync://") as kit:
        job = kit.options(seed=4711).submit(len, "abc")

        report = job.report(tmp_path / "run.html").read_text()
        card = JobDisplay(job)
        html = card.html(card.model())

    for text in (report, html):
        assert "What made it" in text
        assert "<code>4711</code>" in text


def test_a_submit_on_the_loop_of_jobkit_does_not_wait_for_itself(kit: Kit) -> None:
    made = kit.submit(len, "abc").snapshot.spec.made

    assert background.call(kit.aio.submit(len, "abc")).snapshot.spec.made == made
