"""Parts that the launchers of clusters share: missing extras, why a unit has ended."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from jobkit.pools.launcher import EngineUnavailable, LaunchRefused


def check_extra(module: str, extra: str, refusal: type[LaunchRefused | EngineUnavailable]) -> None:
    """Raise `refusal` with the command that installs a missing library."""
    if importlib.util.find_spec(module) is None:
        raise refusal(f'pools on {extra} need it on the machine that manages them: pip install "panel-jobkit[{extra}]"')


def one_line(text: object, most: int = 300) -> str:
    """Return the first line with something in it, or the name of the type of an exception without text."""
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    return (lines[0] if lines else type(text).__name__)[:most]


def amounts(given: Mapping[str, float]) -> str:
    """Return resources as in "GPU=1, CPU=2"."""
    return ", ".join(f"{name}={amount:g}" for name, amount in given.items())


def why_ended(facts: Mapping[str, Any]) -> str:
    """Return why a `UnitProcess` with these facts ended; "" if it was asked to, or has finished."""
    status = facts["status"]
    if facts["asked"] or status == 0:
        return ""
    said = [line.strip() for line in facts["tail"].splitlines() if line.strip()]
    last = f": {said[-1][:300]}" if said else ""
    if last.endswith("No module named jobkit"):
        last += "; install panel-jobkit there, or name a Python that has it: python="
    if status is None:
        return last.removeprefix(": ")
    how = f"ended by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"worker {how}{last}"
