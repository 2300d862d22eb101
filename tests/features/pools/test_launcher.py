"""Parts that all engines share: options, names, command and environment of a unit."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobkit.features.pools import launcher, launchers
from jobkit.features.pools.launcher import (
    WorkerOrder,
    checked_options,
    launcher_class,
    slug,
    worker_command,
    worker_environment,
    worker_settings,
)
from jobkit.joined import Membership
from jobkit.model import InvalidParams
from jobkit.settings import Settings
from jobkit.worker.about import identify, lasting_facts


class Options(msgspec.Struct, frozen=True):
    partition: str
    cpus: int = 1
    hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.cpus < 1:
            raise ValueError(f"cpus must be 1 or more, not {self.cpus}")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> str:
    module: Any = types.ModuleType(f"{launchers.__name__}.made_up")
    module.MadeUpLauncher = type("MadeUpLauncher", (), {"Options": Options})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(launcher.ENGINES, "made_up", "MadeUpLauncher")
    return "made_up"


def test_options_of_an_engine_are_read_also_from_texts(engine: str) -> None:
    assert checked_options(engine, {"partition": "a100", "cpus": "4"}) == Options("a100", 4)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "a pool on made_up needs the option partition"),
        ({"partition": "a", "cpu": 1}, "cpu is not an option of pools on made_up; allowed are partition, cpus, hosts"),
        ({"partition": "a", "cpus": "many"}, "cpus of a pool on made_up: expected int, got str; given is 'many'"),
        ({"partition": "a", "cpus": 0}, "pool on made_up: cpus must be 1 or more, not 0"),
    ],
)
def test_wrong_options_are_refused_with_name_value_and_what_is_allowed(
    engine: str, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidParams) as caught:
        checked_options(engine, given)

    assert str(caught.value) == said


def test_an_unknown_engine_is_refused_with_those_that_exist() -> None:
    with pytest.raises(InvalidParams, match="on must be one of local, ssh, slurm, .*, not 'aws'"):
        launcher_class("aws")


def test_command_and_environment_of_a_unit_have_everything_that_its_worker_needs() -> None:
    secret = {"JOBKIT_SECRET": "s3cret"}
    order = WorkerOrder("gpu", "gpu-1", ("gpu", "default"), 2, {"gpu": 1.0}, ("my.tasks",), 3600.0, secret, idle_s=600)

    command, environ = worker_command(order), worker_environment(order, "slurm 4711")

    words = "-m jobkit worker --slots 2 --queue gpu --queue default --tasks my.tasks --resources gpu=1"
    assert command == words.split()
    assert environ["JOBKIT_ENGINE"] == "slurm 4711"
    assert (environ["JOBKIT_WALLTIME"], environ["JOBKIT_IDLE"]) == ("3600", "600")
    assert environ["JOBKIT_SECRET"] == "s3cret"
    assert "s3cret" not in repr(order)


def test_names_of_pools_become_parts_of_names_of_any_engine() -> None:
    assert slug("gpu") == "gpu"
    assert slug("GPU_a") != slug("gpu-a")
    assert slug("GPU_a").startswith("gpu-a-")


def test_a_worker_records_the_pool_that_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "pool" not in lasting_facts(identify(["default"], 1, []))

    for name, value in (("POOL", "gpu"), ("UNIT", "gpu-1"), ("ENGINE", "slurm 4711")):
        monkeypatch.setenv(f"JOBKIT_{name}", value)
    facts = lasting_facts(identify(["default"], 1, []))

    assert (facts["pool"], facts["unit"], facts["engine"]) == ("gpu", "gpu-1", "slurm 4711")


def test_workers_elsewhere_reach_a_place_that_only_the_managing_machine_has_joined(tmp_path: Path) -> None:
    member = Membership(
        name="lab", machine="lab1", host="10.0.0.1", port=7379, certificate="", user="u", password="p",
        namespace="default", role="worker", secret="s",
    )  # fmt: skip
    folder = tmp_path / "joined"
    folder.mkdir()
    (folder / "lab.json").touch(0o600)
    (folder / "lab.json").write_bytes(msgspec.json.encode(member))
    here = Settings(url="joined://lab", home=tmp_path).checked()

    elsewhere = Settings(url=worker_settings(here, "ssh")["JOBKIT_URL"], home=tmp_path / "other").checked()

    assert elsewhere.membership == member
    assert elsewhere.secret == "s"
    assert worker_settings(here, "local")["JOBKIT_URL"] == "joined://lab"
