"""Units of one pool: what its engine lists and what workers report, merged into one record each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from jobkit.features.pools.decide import Tempo
from jobkit.features.pools.launcher import Unit
from jobkit.features.pools.spec import PoolSpec
from jobkit.features.pools.store import PoolUnit
from jobkit.store.values import WorkerInfo

#: Number of ended units that a pool keeps, for people who look for the reason.
ENDED_KEPT = 20

#: Our names of units. The store may contain others, which are not signed, and engines get them back.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")

#: Characters of what an engine says that are kept.
_WORDS = 500

#: Why a unit counts as ended that its engine lists no more.
_UNKNOWN = "the engine does not know it any more"

#: Seconds for which an engine may not list a unit that it has just accepted.
_LAG_S = 30.0

#: After a gap of so many seconds without an autoscaler, the end of a unit is taken from its worker's last heartbeat.
_GAP_S = 60.0


def merged(
    spec: PoolSpec,
    known: Iterable[PoolUnit],
    listed: Sequence[Unit],
    is_whole: bool,
    workers: Sequence[WorkerInfo],
    now_ms: int,
) -> list[PoolUnit]:
    """Return the units of a pool as they are now.

    A live worker counts more than its engine, whose list may be old. Units that are not known are adopted: an
    autoscaler before this one has started them.

    Args:
        listed: by the engine since the last call; `is_whole`: these are all units.
        workers: those that this pool has started.
    """
    units = {unit.unit: unit for unit in known if _NAME.fullmatch(unit.unit)}
    listing = {unit.unit: unit for unit in listed}
    working = {worker.unit: worker for worker in workers if worker.is_alive and _NAME.fullmatch(worker.unit)}
    for name in [*listing, *working]:
        is_old = name in listing and listing[name].state == "ended" and name not in units
        if name not in units and not is_old:
            units[name] = PoolUnit(unit=name, made_ms=now_ms, slots=spec.slots, resources=spec.resources)
    if is_whole:  # orders that the engine has not got
        late = {name for name, unit in units.items() if unit.phase == "ordered" and not _is_new(unit, now_ms)}
        units = {name: unit for name, unit in units.items() if name not in late or name in listing or name in working}
    for name, worker in working.items():  # its engine had lost it, and it lives
        unit = units.get(name)
        beat_ms = now_ms - worker.beat_age_s * 1000
        is_listed = name in listing and listing[name].state == "running"  # a host that was away is back
        is_lost = unit is not None and unit.phase == "ended" and (unit.error == _UNKNOWN or is_listed)
        if unit and is_lost and beat_ms > unit.ended_ms:
            units[name] = replace(unit, phase="up", ended_ms=0, error="")
    found = [
        unit if unit.phase == "ended" else _merged(unit, listing.get(name), is_whole, working.get(name), now_ms)
        for name, unit in units.items()
    ]
    ended = sorted((unit for unit in found if unit.phase == "ended"), key=lambda unit: unit.ended_ms)
    return [unit for unit in found if unit.phase != "ended"] + ended[-ENDED_KEPT:]


def _merged(unit: PoolUnit, listed: Unit | None, is_whole: bool, worker: WorkerInfo | None, now_ms: int) -> PoolUnit:
    if listed is not None:
        unit = replace(
            unit,
            id=listed.id,
            reason=listed.reason[:_WORDS],
            host=listed.host or unit.host,
            expected_ms=listed.expected_ms,
            error=listed.error[:_WORDS],
        )
    if listed is not None and listed.state == "ended":
        return _ended(unit, now_ms)
    if worker is not None:
        return _with_worker(unit, worker, now_ms)
    if listed is None and is_whole and (unit.stopped_ms or not _is_new(unit, now_ms)):
        return _ended(replace(unit, error=unit.error or _UNKNOWN), now_ms)
    if unit.started_ms or (listed is not None and listed.state == "running"):
        unit = _started(unit, now_ms)
        return replace(unit, phase="ending" if unit.up_ms or unit.stopped_ms else "starting")
    return replace(unit, phase="pending") if listed is not None and not unit.stopped_ms else unit


def _is_new(unit: PoolUnit, now_ms: int) -> bool:
    return now_ms - max(unit.made_ms, unit.started_ms) < _LAG_S * 1000


def _with_worker(unit: PoolUnit, worker: WorkerInfo, now_ms: int) -> PoolUnit:
    unit = _started(unit, now_ms)
    is_busy = worker.running > 0 or worker.done != unit.done
    return replace(
        unit,
        phase="ending" if unit.stopped_ms or worker.is_draining else "up",
        worker=worker.id,
        host=worker.host,
        slots=worker.slots,
        resources=worker.resources,
        running=worker.running,
        done=worker.done,
        up_ms=unit.up_ms or now_ms,
        seen_ms=now_ms - int(worker.beat_age_s * 1000),
        idle_ms=0 if is_busy else unit.idle_ms or now_ms,
    )


def _started(unit: PoolUnit, now_ms: int) -> PoolUnit:
    """Return a unit that runs, with its time counted until now."""
    if unit.started_ms:
        return replace(unit, counted_ms=max(unit.counted_ms, now_ms))
    return replace(unit, started_ms=now_ms, counted_ms=now_ms, expected_ms=0)


def _ended(unit: PoolUnit, now_ms: int) -> PoolUnit:
    """Return a unit that has ended: now, or with the last heartbeat of its worker if no autoscaler has looked since."""
    end_ms = now_ms
    if unit.started_ms and now_ms - unit.counted_ms > _GAP_S * 1000:
        end_ms = max(unit.counted_ms, min(unit.seen_ms, now_ms))
    counted = end_ms if unit.started_ms else 0
    return replace(unit, phase="ended", ended_ms=end_ms, counted_ms=counted, running=0, idle_ms=0, expected_ms=0)


def worked_ms(before: Iterable[PoolUnit], after: Iterable[PoolUnit]) -> int:
    """Return the time that units have run between two states."""
    counted = {unit.unit: unit.counted_ms for unit in before if unit.started_ms}
    return sum(max(0, unit.counted_ms - counted.get(unit.unit, unit.started_ms)) for unit in after if unit.started_ms)


def has_failed(unit: PoolUnit, tempo: Tempo) -> bool:
    """Return whether a unit has ended at once and not in good order, as after a request to end."""
    lived_ms = unit.ended_ms - unit.up_ms if unit.up_ms else 0
    is_orderly = unit.stopped_ms or (unit.up_ms and not unit.error)
    return unit.phase == "ended" and not is_orderly and not unit.done and lived_ms < tempo.well * 1000


def is_well(unit: PoolUnit, now_ms: int, tempo: Tempo) -> bool:
    """Return whether a unit was started successfully: its worker has lived for a while, or has ended a job."""
    return unit.phase == "up" and (unit.done > 0 or now_ms - unit.up_ms >= tempo.well * 1000)


def is_stuck(unit: PoolUnit, now_ms: int, tempo: Tempo, since_ms: int = 0) -> str:
    """Return why a running unit must be stopped at its engine, "" if not: its worker did not come, or is gone.

    Args:
        since_ms: the autoscaler has watched without a gap since then; silence before counts for nothing.
    """
    if not unit.is_running:
        return ""
    if not unit.up_ms:
        is_late = now_ms - max(unit.started_ms, unit.stopped_ms, since_ms) > tempo.start * 1000
        return f"its worker did not reach the server within {tempo.start:g} s" if is_late else ""
    is_gone = now_ms - max(unit.seen_ms, unit.stopped_ms, since_ms) > tempo.lost * 1000
    return "its worker has ended or lost the server" if is_gone else ""
