"""Limits that are set while the system runs: by `kit.limits` and at the command line."""

from __future__ import annotations

import json
import secrets

import pytest

from jobkit.client.kit import Kit
from jobkit.model import InvalidParams
from tests.cli.conftest import Terminal


def test_a_limit_is_set_listed_and_ended(kit: Kit) -> None:
    name = f"q{secrets.token_hex(4)}"

    rule = kit.limits.set(queue=name, concurrency=2, rate="10/m")

    assert rule.to_json() == {"queue": name, "concurrency": 2, "rate": "10/m", "running": 0}
    assert rule in kit.limits()
    kit.limits.set(queue=name, rate="1/s")
    assert [(found.n, found.rate) for found in kit.limits() if found.gate == rule.gate] == [(0, "1/s")]
    kit.limits.remove(queue=name)
    assert kit.limits() == []
    for wrong in ({}, {"queue": "a", "task": "b"}, {"queue": "a", "rate": "0/m"}, {"task": "a", "concurrency": 0}):
        with pytest.raises(InvalidParams):
            kit.limits.set(**{"concurrency": 1, **wrong} if "rate" not in wrong else wrong)  # type: ignore[arg-type]


def test_a_limit_is_set_listed_and_removed_at_the_command_line(terminal: Terminal) -> None:
    name = f"q{secrets.token_hex(4)}"

    made = json.loads(terminal.ok("limits", "set", "--queue", name, "--rate", "10/m", "--json"))

    assert made == {"queue": name, "concurrency": None, "rate": "10/m", "running": 0}
    assert made in json.loads(terminal.ok("limits", "--json"))
    assert name in terminal.ok("limits")
    terminal.ok("limits", "remove", "--queue", name)
    assert name not in terminal.ok("limits")
    assert "give concurrency or rate" in terminal.run("limits", "set", "--queue", name).stderr
