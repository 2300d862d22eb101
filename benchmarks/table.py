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
    figure: str,
    values: Mapping[str, Sequence[float]],
    unit: str,
    wanted: Mapping[str, float],
    *,
    is_more_better: bool = False,
) -> list[Row]:
    """Return rows of all systems for one figure; jobkit's are compared with peers of the same run.

    Args:
        values: system to its values, one a round. jobkit's systems have names that begin with "jobkit".
        wanted: peer to the ratio of its median that jobkit should reach; a peer that was not measured is left out.
    """
    medians = {system: statistics.median(found) for system, found in values.items() if found}
    limits = {peer: ratio for peer, ratio in wanted.items() if peer in medians}
    rows = []
    for system, found in values.items():
        if not found:
            continue
        more: dict[str, Any] = {}
        if system.startswith("jobkit") and limits:
            shares = {peer: medians[system] / medians[peer] for peer in limits}
            sign = ">=" if is_more_better else "<="
            more["target"] = "; ".join(f"{sign} {limits[peer]:g} x {peer}, is {shares[peer]:.2f} x" for peer in limits)
            more["is_met"] = all(
                (share >= limits[peer]) if is_more_better else (share <= limits[peer]) for peer, share in shares.items()
            )
        rows.append(row(figure, system, found, unit, **more))
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
