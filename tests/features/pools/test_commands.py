"""`jobkit pools` in this process."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import msgspec
import pytest

import jobkit
from jobkit.cli import main
from jobkit.client.kit import Kit
from jobkit.connecting import default_kit
from jobkit.features.pools.doctor import states
from jobkit.features.pools.store import PoolStatus, PoolStore, PoolUnit
from jobkit.settings import Settings


class Console:
    """Runs commands; `kit` is their default kit, which starts no autoscaler."""

    def __init__(self, kit: Kit, capsys: pytest.CaptureFixture[str]) -> None:
        self.kit, self._capsys = kit, capsys

    def run(self, *words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(list(words))
        said = self._capsys.readouterr()
        return int(caught.value.code or 0), said.out, said.err


@pytest.fixture
def console(redis_url: str, capsys: pytest.CaptureFixture[str]) -> Iterator[Console]:
    own = Settings(url=redis_url, namespace=f"c{secrets.token_hex(4)}", secret="of these tests", tasks=("json",))
    settings = replace(own, pools={"lab": {"on": "local", "max": 2, "idle": "1m"}}).checked()
    with Kit(settings) as kit, default_kit(kit):
        yield Console(kit, capsys)


def test_a_pool_is_added_listed_changed_and_removed(console: Console) -> None:
    status, said, _ = console.run("pools", "add", "gpu", "--on", "local", "--max", "3", "--resources", "gpu=1,mem=64G")
    assert (status, said.splitlines()[0][:40]) == (0, "gpu: 0 to 3 workers on local for queue g")

    [listed] = json.loads(console.run("pools", "--json")[1])
    assert (listed["name"], listed["max"], listed["resources"]) == ("gpu", 3, {"gpu": 1.0, "mem": 64.0})
    assert "no autoscaler" in console.run("pools")[1]
    assert console.run("pools", "pause", "gpu")[0] == 0
    assert "paused" in console.run("pools", "show", "gpu")[1]
    assert "already" in console.run("pools", "pause", "gpu")[2]
    assert console.run("pools", "resume", "gpu")[0] == 0
    assert console.run("pools", "scale", "gpu", "2")[0] == 0
    assert console.kit.pools.get("gpu").fixed == 2
    assert console.run("pools", "scale", "gpu", "auto")[0] == 0
    assert console.run("pools", "remove", "gpu")[0] == 0
    assert "No pools" in console.run("pools")[2]
    assert {entry.action for entry in console.kit.audit()} == {
        "add_pool", "pause_pool", "resume_pool", "scale_pool", "remove_pool"
    }  # fmt: skip


def test_a_pool_whose_workers_cannot_be_ended_is_removed_at_once(console: Console) -> None:
    console.run("pools", "add", "gpu", "--on", "local", "--max", "3")
    status = PoolStatus(units=(PoolUnit(unit="gpu-1", phase="up"),))
    fields = {"status": msgspec.json.encode(status).decode()}
    console.kit.connection.call(partial(console.kit.verbs.store.part(PoolStore).change, "gpu", **fields))
    console.run("pools", "remove", "gpu")
    assert [pool.state for pool in console.kit.pools()] == ["removed"]

    assert console.run("pools", "remove", "gpu", "--now")[:2] == (0, "gpu\n")

    assert console.kit.pools() == []


def test_workers_import_the_tasks_of_the_kit_unless_the_pool_names_others(console: Console) -> None:
    plain, own = (console.kit.pool("gpu", on="local", max=1, **more).spec for more in ({}, {"tasks": ["csv"]}))

    assert plain is not None
    assert own is not None
    assert (plain.tasks, own.tasks) == (("json",), ("csv",))


def test_doctor_tells_of_pools_without_an_autoscaler(console: Console) -> None:
    console.kit.pool("gpu", on="local", max=1)

    found = [*states(console.kit.pools.infos())]

    assert ("warn", "gpu: no autoscaler run") in [(each.level, each.text[:22]) for each in found]


def test_pools_of_the_project_file_are_added_by_name_or_all(console: Console) -> None:
    assert console.run("pools", "add")[0] == 0
    assert console.kit.pools.get("lab").max == 2
    assert console.run("pools", "add", "lab", "--max", "5")[0] == 0
    assert console.kit.pools.get("lab").max == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pools", "add", "gpu"), "pool gpu needs --on and --max"),
        (("pools", "add", "gpu", "--on", "local"), "pool gpu needs max="),
        (("pools", "add", "gpu", "--on", "local", "--max", "many"), "max must be a whole number from 1 to 1,000"),
        (("pools", "add", "gpu", "--on", "local", "--max", "1", "nonsense"), "options of the engine are given as"),
        (("pools", "add", "gpu", "--on", "local", "--max", "1", "a=b"), "a is not an option of pools on local"),
        (("pools", "show", "gpu"), "there is no pool 'gpu'; there are none"),
        (("pools", "scale", "gpu", "some"), "N must be a number of workers or auto, not 'some'"),
        (("pools", "drain", "gpu"), "there is no pool 'gpu'"),
    ],
)
def test_bad_input_is_one_sentence(console: Console, words: tuple[str, ...], said: str) -> None:
    status, _, error = console.run(*words)

    assert status == 2
    assert said in error
    assert error.count("\n") == 1
    assert console.kit.pools() == []


def test_a_kit_without_a_key_or_a_server_refuses_pools(redis_url: str) -> None:
    nokey, said = Settings(url=redis_url, namespace="nokey").checked(), "pools start programs, so they need a signing"
    with Kit(nokey) as kit, pytest.raises(jobkit.InvalidParams, match=said):
        kit.pool("gpu", on="local", max=1)
    with jobkit.connect("sync://") as kit, pytest.raises(jobkit.InvalidParams, match="pools need another JOBKIT_URL"):
        kit.pool("gpu", on="local", max=1)
