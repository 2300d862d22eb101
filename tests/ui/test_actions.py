"""Access to actions: every action by every role, on own and other users' jobs, with its entry in the audit trail."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis

from jobkit.client.connection import Connection
from jobkit.client.kit import Kit
from jobkit.model import InvalidParams, JobState, StoreUnavailable, SubmitUnanswered
from jobkit.model.person import Person, Role
from jobkit.settings import Settings
from jobkit.tasks.registry import task
from jobkit.ui.access.actions import ACTIONS, ActionReply, Actions, action, each
from tests.store.server import Server
from tests.support import keep_from_writing_audit, wait_until
from tests.ui.stage import Stage


def act(access: Actions, name: str, targets: list[str], **details: Any) -> ActionReply:
    return asyncio.run(access.act(name, targets, **details))


def desk_of(stage: Stage, role: str, name: str = "ada") -> Actions:
    return Actions(stage.kit, Person(name, Role(role)))


#: Roles that may act on own jobs and on other users'; `own` does not learn that the others' exist.
MAY = {
    "none": (False, False),
    "view": (False, False),
    "own": (True, False),
    "operate": (True, True),
    "admin": (True, True),
}


@pytest.mark.parametrize("role", MAY)
@pytest.mark.parametrize("whose", ["own", "foreign"])
def test_a_waiting_job_is_cancelled_by_those_who_may(stage: Stage, role: str, whose: str) -> None:
    job = stage.submit("train", owner="ada" if whose == "own" else "eve")

    answer = act(desk_of(stage, role), "cancel", [job])

    may = MAY[role][whose == "foreign"]
    assert answer.is_ok is may, answer
    assert (stage.kit.snapshot(job).state == JobState.CANCELLED) is may
    assert stage.kit.audit()[0].outcome == ("done" if may else "failed" if role == "own" else "refused")


@pytest.mark.parametrize("role", MAY)
@pytest.mark.parametrize("whose", ["own", "foreign"])
def test_an_ended_job_is_deleted_by_those_who_may(stage: Stage, role: str, whose: str) -> None:
    job = stage.submit("train", owner="ada" if whose == "own" else "eve")
    stage.kit.cancel(job)

    answer = act(desk_of(stage, role), "delete", [job])

    may = MAY[role][whose == "foreign"]
    assert answer.is_ok is may, answer
    assert (stage.kit.counts()["cancelled"] == 0) is may


@pytest.mark.parametrize("role", MAY)
def test_who_submits_becomes_the_owner(stage: Stage, role: str) -> None:
    @task
    def double(n: int = 1) -> int:
        return 2 * n

    answer = act(desk_of(stage, role), "submit", ["double"], params={"n": 2})

    assert answer.is_ok is MAY[role][0]
    assert [stage.kit.snapshot(made).spec.owner for made in answer.made] == ["ada"] * answer.is_ok


def test_an_unanswered_submit_is_reported_with_its_job(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def unanswered(*_: object) -> None:
        raise StoreUnavailable("Redis does not answer", is_sent=True)

    @task
    def double(n: int = 1) -> int:
        return 2 * n

    monkeypatch.setattr(Connection, "send", unanswered)
    answer = act(desk_of(stage, "operate"), "submit", ["double"])

    assert isinstance(answer.error, SubmitUnanswered)
    said = f"Job {answer.error.id} may have been accepted: look at the jobs before you submit again"
    assert answer.sentence == f"Redis does not answer. {said}"


@pytest.mark.parametrize("role", MAY)
@pytest.mark.parametrize("whose", ["own", "foreign"])
def test_who_retries_becomes_the_owner_of_the_new_job(stage: Stage, role: str, whose: str) -> None:
    @task
    def double(n: int = 1) -> int:
        return 2 * n

    job = stage.kit.submit_info("double", {"n": 2}, owner="ada" if whose == "own" else "eve").id

    answer = act(desk_of(stage, role), "retry", [job])

    assert answer.is_ok is MAY[role][whose == "foreign"], answer
    assert [stage.kit.snapshot(made).spec.owner for made in answer.made] == ["ada"] * answer.is_ok


@pytest.mark.parametrize("role", MAY)
def test_only_an_admin_ends_a_worker(stage: Stage, role: str) -> None:
    stage.beat("gpu-1")

    answer = act(desk_of(stage, role), "drain_worker", ["gpu-1"])

    assert answer.is_ok is (role == "admin"), answer


def test_every_action_is_in_the_matrix_above() -> None:
    assert set(ACTIONS) >= {"submit", "cancel", "retry", "delete", "drain_worker", "stop_worker"}
    for name, one in ACTIONS.items():
        if name in ("tell", "tell_batch"):  # change only what the person gets
            continue
        least = (Role.VIEW,) if one.on == "view" else (Role.OPERATE, Role.ADMIN)  # saved views are the person's own
        assert one.least in least, f"{name} is allowed for a role that may only read"
        assert not one.own_too or one.on in ("job", "task", "archived job", "view"), (
            f"{name}: unknown owner of {one.on}"
        )


def test_a_foreign_job_and_none_at_all_look_the_same_to_who_sees_their_own(stage: Stage) -> None:
    foreign = stage.submit("train", owner="eve", id="x" * 32)
    access = desk_of(stage, "own")

    told = [act(access, "cancel", [job]).sentence for job in (foreign, "y" * 32)]

    assert told[0].replace("x", "y") == told[1].replace("x", "y")


def test_of_many_each_is_done_that_can_be_and_one_sentence_tells_of_the_rest(stage: Stage) -> None:
    jobs = [stage.submit("train", owner="ada") for _ in range(3)]
    stage.start(jobs[0])

    answer = act(Actions(stage.kit), "delete", [*jobs, "nowhere"])
    assert answer.outcome == "failed"

    assert act(Actions(stage.kit), "cancel", jobs).sentence == "3 jobs were asked to stop"
    answer = act(Actions(stage.kit), "delete", [*jobs, "nowhere"])
    assert answer.sentence.startswith("2 of 4 jobs could not be deleted: job 00000001")
    assert answer.outcome == "partly"
    assert stage.kit.counts()["cancelled"] == 0


def test_a_refused_argument_keeps_its_name(stage: Stage) -> None:
    @task
    def double(n: int = 1) -> int:
        return 2 * n

    answer = act(Actions(stage.kit), "submit", ["double"], params={"n": "many"})

    assert isinstance(answer.error, InvalidParams)
    assert answer.error.field == "n"


def test_what_goes_wrong_inside_is_one_sentence(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def wrong(call: Any, target: str) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.delitem(ACTIONS, "wrong", raising=False)
    action("wrong", each(wrong), "wronged")
    try:
        answer = act(Actions(stage.kit), "wrong", [stage.submit()])
    finally:
        del ACTIONS["wrong"]

    assert "fault of jobkit" in answer.sentence
    assert "secret" not in answer.sentence


def test_refusals_do_not_push_out_the_trail(stage: Stage) -> None:
    access = desk_of(stage, "view")
    for n in range(80):
        assert not act(access, "cancel", [f"job{n}"]).is_ok

    (entry,) = stage.kit.audit(1000)
    assert (entry.outcome, entry.times, entry.count, len(entry.targets)) == ("refused", 80, 80, 20)


def test_an_act_that_cannot_be_written_down_says_so_and_is_written_as_soon_as_it_can_be() -> None:
    with (
        Server() as server,
        Kit(Settings(url=server.url, secret="of these tests")) as kit,
        redis.Redis.from_url(server.url) as client,
    ):
        keep_from_writing_audit(client)
        job = kit.submit(len, "abc").id

        answer = act(Actions(kit, Person("ada", Role.OPERATE)), "cancel", [job])

        assert (answer.is_ok, answer.is_noted) == (True, False)
        assert answer.problem.endswith(
            "was cancelled; this is not in the audit trail yet, which cannot be written just now"
        )
        client.execute_command("ACL", "SETUSER", "default", "~*")
        (entry,) = wait_until(kit.audit, what="the entry")
        assert (entry.who, entry.action, entry.targets, entry.outcome) == ("ada", "cancel", (job,), "done")
        assert "written down late" in entry.note
