"""Rows of figures, and the tables that are printed and written."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of one system.

    Attributes:
        figure: what was measured, with its conditions. system: "jobkit" or a peer.
        value: the median over the rounds, in `unit`; `low` and `high`: their range.
        target: what it should be, in words; "" for peers. is_met: None if there is no target.
    """

    figure: str
    system: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    target: str = ""
    is_met: bool | None = None


def row(figure: str, system: str, values: Iterable[float], unit: str, **more: Any) -> Row:
    """A row from the values of several rounds."""
    found = list(values)
    return Row(figure, system, statistics.median(found), unit, min(found), max(found), **more)


def against(
    figure: str, values: Mapping[str, Sequence[float]], unit: str, *, ratio: float, is_more_better: bool = False
) -> list[Row]:
    """Rows of all systems for one figure; those of jobkit are held against `ratio` times the best peer.

    Args:
        values: system to its values, one a round. Systems of ours are called "jobkit...".
    """
    peers = {system: statistics.median(v) for system, v in values.items() if not system.startswith("jobkit") and v}
    best = (max if is_more_better else min)(peers, key=lambda system: peers[system]) if peers else None
    rows = []
    for system, found in values.items():
        if not found:
            continue
        if not system.startswith("jobkit") or best is None:
            rows.append(row(figure, system, found, unit))
            continue
        share = statistics.median(found) / peers[best]
        is_met = share >= ratio if is_more_better else share <= ratio
        wanted = f"{'>=' if is_more_better else '<='} {ratio:g} x {best}; is {share:.2f} x"
        rows.append(row(figure, system, found, unit, target=wanted, is_met=is_met))
    return rows


def most(figure: str, values: Iterable[float], unit: str, limit: float, system: str = "jobkit") -> Row:
    """A row that is held against an upper limit."""
    found = list(values)
    is_met = statistics.median(found) <= limit
    return row(figure, system, found, unit, target=f"<= {limit:g} {unit}", is_met=is_met)


def least(figure: str, values: Iterable[float], unit: str, limit: float, system: str = "jobkit") -> Row:
    """A row that is held against a lower limit."""
    found = list(values)
    is_met = statistics.median(found) >= limit
    return row(figure, system, found, unit, target=f">= {limit:,.0f} {unit}", is_met=is_met)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0..1) of them lie; the nearest one that was measured."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def number(value: float) -> str:
    """Three digits that matter: `0.812`, `14.2`, `2,480`."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _cells(found: Row) -> list[str]:
    spread = ""
    if found.low is not None and found.high is not None and found.low != found.high:
        spread = f"{number(found.low)} – {number(found.high)}"
    verdict = {True: "met", False: "missed", None: ""}[found.is_met]
    return [found.figure, found.system, f"{number(found.value)} {found.unit}", spread, found.target, verdict]


_HEADS = ["figure", "system", "median", "range", "target", ""]


def as_text(rows: Sequence[Row]) -> str:
    """A table for a terminal."""
    lines = [_HEADS, *map(_cells, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEADS))]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join("  ".join(cells).rstrip() for cells in padded)


def as_markdown(rows: Sequence[Row]) -> str:
    lines = [_HEADS, ["---"] * len(_HEADS), *map(_cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine(server_version: str) -> str:
    """One sentence that names the machine and the moment."""
    name = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.partition(":")[2] for line in info.read_text().splitlines() if line.startswith("model name")]
        name = models[0].strip() if models else name
    load = psutil.getloadavg()[0]
    return (
        f"{psutil.cpu_count()} cores ({name}), {psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.system()}, "
        f"Python {platform.python_version()}, Redis {server_version} without persistence over TCP loopback; "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load before the run {load:.1f}"
    )
