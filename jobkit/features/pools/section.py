"""Pools on the page of workers: what each should have and has, why it does not get that, and what can be done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jobkit.client.kit import Kit
from jobkit.features.pools.kit import Pools
from jobkit.features.pools.pool_info import PoolInfo
from jobkit.features.pools.store import PoolUnit
from jobkit.model import InvalidParams
from jobkit.model.format import many
from jobkit.model.person import Role
from jobkit.ui.access.actions import ActionCall, action, deed_actions, each

#: See `jobkit/feature.py`.
SECTION = "pools"
ACTIONS = ("pause_pool", "resume_pool", "scale_pool", "drain_pool")
DETAILS = {"scale_pool": ("workers",)}

#: Reasons of a pool's units that are listed: of those that are on their way or end, and of the last that have failed.
_UNITS, _FAILED = 8, 3

_PHASES = {"ordered": "ordered", "pending": "waits", "starting": "starts", "ending": "ends", "ended": "ended"}


async def rows(kit: Kit) -> list[dict[str, Any]]:
    """Return the rows of all pools, by name."""
    return [pool_row(pool) for pool in await kit.aio.pools.infos()]


def pool_row(pool: PoolInfo) -> dict[str, Any]:
    """Return the row of a pool. Units whose workers run are not in it: they are among the workers."""
    spec = pool.spec
    moving = _grouped(pool, [unit for unit in pool.units if unit.phase not in ("up", "ended")])
    failed = [unit for unit in pool.units if unit.phase == "ended" and unit.error and not unit.stopped_ms]
    return {
        "name": pool.name,
        "state": pool.state.replace("no autoscaler", "unmanaged"),
        "about": spec.sentence if spec else "",
        "max": spec.max if spec else 0,
        "fixed": pool.fixed,
        "wanted": pool.wanted,
        "pending": pool.pending,
        "running": pool.running,
        "worker_hours": round(pool.worker_hours, 1),
        "sentence": pool.sentence,
        "units": moving[:_UNITS] + _grouped(pool, failed[::-1])[:_FAILED],
        "more": sum(row["count"] for row in moving[_UNITS:]),
    }


def _grouped(pool: PoolInfo, units: Iterable[PoolUnit]) -> list[dict[str, Any]]:
    """Return a row for each reason of the engine, with the first unit that has it."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for unit in units:
        row = _unit(pool, unit)
        rows.setdefault((row["phase"], row["text"], row["expected_ms"]), row)["count"] += 1
    return list(rows.values())


def _unit(pool: PoolInfo, unit: PoolUnit) -> dict[str, Any]:
    said = unit.error if unit.phase == "ended" else unit.reason
    return {
        "unit": unit.unit,
        "id": f"{pool.engine} {unit.id}" if unit.id else pool.engine,
        "host": unit.host,
        "phase": unit.phase,
        "text": said or _PHASES.get(unit.phase, unit.phase),
        "expected_ms": unit.expected_ms or None,
        "count": 0,
    }


async def _scale(call: ActionCall, name: str) -> None:
    text = str(call.details.get("workers", "")).strip()
    try:
        n = int(text) if text else None
    except ValueError:
        raise InvalidParams(f"the number of workers must be a whole number, not {text[:40]!r}", "n") from None
    await call.kit.aio.pools.scale(name, n)
    call.done = "left to its autoscaler" if n is None else f"scaled to {many(n, 'worker')}"


async def _drain(call: ActionCall, name: str) -> None:
    count = len(await call.kit.aio.pools.drain(name))
    call.done = f"drained: {count:,} worker{' ends when its' if count == 1 else 's end when their'} jobs have ended"


deed_actions(Pools)
action("scale_pool", each(_scale), "scaled", on="pool", least=Role.ADMIN)
action("drain_pool", each(_drain), "drained", on="pool", least=Role.ADMIN)
