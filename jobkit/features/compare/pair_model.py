"""Differences of two jobs as data: arguments, code, packages, machine, options, and the outcome. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Any

import msgspec

from jobkit.features.compare import code_diff
from jobkit.features.compare.code_diff import FileDiff
from jobkit.features.provenance.made_by import MadeBy, Origin, ProcessFacts, sections
from jobkit.model import JobSnapshot, JobState
from jobkit.model.format import FACES, duration, number, shortened, size, value_brief
from jobkit.model.plain import is_number, iso
from jobkit.model.result import scalars, told
from jobkit.tasks.sources import Source

#: Characters of one value, and rows of one section, at most.
_VALUE_MOST, _ROWS_MOST = 2_000, 500

#: Files whose lines are shown, and lines of all of them.
_FILES_MOST, _LINES_MOST = 40, 3_000

#: Facts that differ between two equal runs: not named at the top up to so many percent, or below a second.
_VARYING, _USUAL_PERCENT = ("duration", "CPU time", "peak memory"), 10.0

#: Changes that are named at the top, of one section.
_NAMED_MOST = 6


class Side(msgspec.Struct, frozen=True):
    """One of the two jobs, with what is known beside its record.

    Attributes:
        made: what made it. preview: of its result. sources: lines of functions that travelled with its call.
    """

    job: JobSnapshot
    made: MadeBy = MadeBy()
    preview: Mapping[str, Any] = {}
    sources: Sequence[Source] = ()

    @property
    def values(self) -> dict[str, Any]:
        """The scalars of its result by name."""
        if self.job.state is not JobState.SUCCEEDED:
            return {}
        plain = self.preview.get("json")
        found = told(self.job.summary) if not isinstance(plain, dict) else scalars(plain)
        return found or {"result": self.job.summary}

    @property
    def origin(self) -> Origin:
        """The process that ran it."""
        return self.made.ran_on or Origin(ProcessFacts())


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One fact of both jobs as texts: "" for none. `change` says how a number moved."""

    name: str
    old: str
    new: str
    change: str = ""

    @property
    def is_equal(self) -> bool:
        return self.old == self.new


class Section(msgspec.Struct, frozen=True):
    """Facts of one kind: those that differ, and equal ones. `note` says what is not known."""

    name: str
    rows: Sequence[Row] = ()
    equal: Sequence[Row] = ()
    note: str = ""


def pair(one: Side, other: Side, now: datetime) -> dict[str, Any]:
    """Return the comparison of two jobs, the older one first, for `pair.js`."""
    files = list(_files(one, other))
    code = _section("Code", _code(one, other), _committed(one, other) or _unknown(one, other))
    causes = [
        _section("Arguments", _arguments(one, other), _abridged(one, other)),
        code,
        _section("Packages", _texts(one.origin.packages, other.origin.packages), _unknown(one, other)),
        _section("Environment", _environment(one, other)),
        _section("Machine", _machine(one, other)),
        _section("Options", _options(one, other)),
    ]
    outcome = _section("Outcome", _outcome(one, other, now))
    shown, left = [], _LINES_MOST
    for file in files[:_FILES_MOST]:
        fits = len(file.lines) <= left
        shown.append(file if fits else FileDiff(file.name, (), f"{len(file.lines):,} lines differ"))
        left -= len(file.lines) if fits else 0
    return {
        "sides": [_head(each) for each in (one, other)],
        "changed": [
            *_named("Arguments", causes[0].rows),
            *[["Code", _said(file)] for file in files[:_NAMED_MOST]],
            *_named("Code", [row for row in code.rows if row.name == "commit"]),
            *(part for section in causes[2:] for part in _named(section.name, section.rows)),
        ],
        "came": _named("Outcome", [row for row in outcome.rows if not _is_usual(row)]),
        "sections": [outcome, *causes],
        "files": [[file.name, file.added, file.removed, file.note, list(file.lines)] for file in shown],
        "more_files": max(0, len(files) - _FILES_MOST),
    }


def _head(side: Side) -> dict[str, Any]:
    job = side.job
    return {
        "id": job.id,
        "title": job.spec.title or job.spec.task,
        "face": job.face,
        "owner": job.spec.owner,
        "submitted_at": iso(job.submitted_at),
        "finished_at": iso(job.finished_at),
        "worker": job.worker,
    }


# -- rows -------------------------------------------------------------------------------------------------------------


def _section(name: str, rows: Iterable[Row], note: str = "") -> Section:
    known = [row for row in rows if row.old or row.new]
    different = [row for row in known if not row.is_equal]
    equal = [row for row in known if row.is_equal]
    return Section(name, different[:_ROWS_MOST], equal[:_ROWS_MOST], note)


def _named(name: str, rows: Iterable[Row]) -> list[list[str]]:
    """Return the first rows that differ in a few words: `["Arguments", "lr 0.1 → 0.01"]`."""
    rows = list(rows)
    words = [f"{row.name} {_short(row.old)} → {_short(row.new)}{row.change and f' ({row.change})'}" for row in rows]
    more = [f"{len(words) - _NAMED_MOST} more"] if len(words) > _NAMED_MOST else []
    return [[name, text] for text in [*words[:_NAMED_MOST], *more]]


def _is_usual(row: Row) -> bool:
    """Return whether a time or size differs as little as between two equal runs."""
    if row.name not in _VARYING:
        return False
    part = row.change.removesuffix(" %").lstrip("+−")
    is_short = row.old.endswith(" ms") and row.new.endswith(" ms")
    return is_short or (row.change.endswith("%") and float(part) < _USUAL_PERCENT)


def _short(text: str) -> str:
    return shortened(" ".join(text.split()), 32) or "none"


def _said(file: FileDiff) -> str:
    counts = [f"+{file.added}" if file.added else "", f"−{file.removed}" if file.removed else ""]
    return " ".join(filter(None, [file.name, *counts])) if file.lines else f"{file.name} changed"


def _text(value: Any) -> str:
    """Return a value on one line or as JSON, with enough digits that equal texts are equal values."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, (dict, list)):
        text = json.dumps(value, ensure_ascii=False, default=str)
    else:
        text = str(value)
    return shortened(text, _VALUE_MOST)


def _texts(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Row]:
    """Return a row for each name, those that differ as numbers with their change."""
    return [
        Row(name, _text(old[name]) if name in old else "", _text(new[name]) if name in new else "",
            change_of(old.get(name), new.get(name)))
        for name in {**old, **new}
    ]  # fmt: skip


def change_of(old: Any, new: Any) -> str:
    """Return how a number moved: "+12 %", "× 3.4", "+0.5" from 0; "" for other values and equal ones."""
    if not (is_number(old) and is_number(new)) or old == new:
        return ""
    moved = new - old
    if not old or not math.isfinite(moved / old):
        return f"{'+' if moved > 0 else '−'}{value_brief(abs(moved))}"
    part = moved / abs(old)
    if old > 0 and new / old >= 3:
        return f"× {number(float(f'{new / old:.3g}'))}"
    return f"{'+' if moved > 0 else '−'}{float(f'{100 * abs(part):.2g}'):g} %"


def _arguments(one: Side, other: Side) -> Iterator[Row]:
    if one.job.spec.task != other.job.spec.task:
        yield Row("task", one.job.spec.task, other.job.spec.task)
    yield from _texts(one.job.spec.params, other.job.spec.params)


def _abridged(one: Side, other: Side) -> str:
    """Say which arguments look equal and may not be."""
    names = {*one.job.spec.abridged, *other.job.spec.abridged}
    params = one.job.spec.params, other.job.spec.params
    alike = sorted(name for name in names if params[0].get(name) == params[1].get(name))
    return f"Known in brief only, and may differ: {', '.join(alike[:10])}." if alike else ""


def _unknown(one: Side, other: Side) -> str:
    """Say of which job it is not known what made it."""
    lacking = [side.job.id[:8] for side in (one, other) if side.made.ran_on is None]
    return f"Not known for {' and '.join(lacking)}." if lacking else ""


def _committed(one: Side, other: Side) -> str:
    """Say how to see what was committed between two jobs."""
    old, new = one.made.commit[:12], other.made.commit[:12]
    return f"`git diff {old} {new}` shows what was committed between them." if old and new and old != new else ""


def _code(one: Side, other: Side) -> Iterator[Row]:
    yield Row("commit", one.made.commit[:12], other.made.commit[:12])
    yield Row("branch", one.made.branch, other.made.branch)
    yield from _texts(*({"changed files": ", ".join(side.made.changed[:20])} for side in (one, other)))
    submitters = [side.made.submitted_from for side in (one, other)]
    yield from _texts(*({"program": origin.facts.program if origin is not None else ""} for origin in submitters))


def _environment(one: Side, other: Side) -> Iterator[Row]:
    yield from _texts(*({"Python": side.made.python, "jobkit": side.origin.facts.jobkit} for side in (one, other)))
    yield from _texts(one.made.env, other.made.env)
    yield from _texts(*({"seed": "" if side.job.spec.seed is None else side.job.spec.seed} for side in (one, other)))
    yield Row("prefix", one.origin.facts.prefix, other.origin.facts.prefix)


def _machine(one: Side, other: Side) -> list[Row]:
    def of(side: Side) -> dict[str, str]:
        facts = side.origin.facts
        return {
            "host": facts.host,
            "system": facts.system,
            "processor": facts.cpu,
            "cores": str(facts.cores or ""),
            "GPUs": ", ".join(facts.gpus),
            "worker": side.job.worker,
        }

    return _texts(of(one), of(other))


def _options(one: Side, other: Side) -> list[Row]:
    def of(side: Side) -> dict[str, str]:
        spec = side.job.spec
        return {
            "queue": spec.queue,
            "priority": str(spec.priority),
            "owner": spec.owner,
            "tags": ", ".join(spec.tags),
            "timeout": duration(spec.timeout_s),
            "memory limit": size(spec.memory_limit_bytes),
            "retries": str(spec.retries),
            "resources": ", ".join(f"{name}={number(amount)}" for name, amount in spec.resources.items()),
            "schedule": spec.schedule,
        }

    return _texts(of(one), of(other))


def _outcome(one: Side, other: Side, now: datetime) -> Iterator[Row]:
    jobs = one.job, other.job
    yield Row("state", FACES[jobs[0].face], FACES[jobs[1].face])
    yield from _texts(*({"error": str(job.error or "") if job.state is JobState.FAILED else ""} for job in jobs))
    results = one.values, other.values
    both = results[0].keys() & results[1].keys()
    yield from _rounded(*results)
    # A metric whose last value is also returned is no second fact.
    yield from _rounded(
        *({f"metric {name}": value for name, value in job.metrics.newest.items() if name not in both} for job in jobs)
    )
    yield _amount("duration", duration, *(job.elapsed_s(now) for job in jobs))
    yield from _texts(*({"attempts": job.attempt or ""} for job in jobs))
    yield _amount("CPU time", duration, *(job.usage.get("cpu_s") for job in jobs))
    yield _amount("peak memory", size, *(job.usage.get("peak_rss_bytes") for job in jobs))


def _rounded(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Row]:
    """Return rows of results: numbers with six digits, more if only these differ."""
    return [row if row.is_equal else _near(row, old.get(row.name), new.get(row.name)) for row in _texts(old, new)]


def _near(row: Row, old: Any, new: Any) -> Row:
    texts = (value_brief(old) if is_number(old) else row.old), (value_brief(new) if is_number(new) else row.new)
    return Row(row.name, *texts, row.change) if texts[0] != texts[1] else row


def _amount(name: str, words: Any, old: float | None, new: float | None) -> Row:
    return Row(name, words(old), words(new), change_of(old, new))


# -- code -------------------------------------------------------------------------------------------------------------


def _files(one: Side, other: Side) -> Iterator[FileDiff]:
    old, new = (sections(side.made.diff) for side in (one, other))
    is_known = one.made.commit == other.made.commit
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)] if is_known else []
    # A function of a script is in its file, too.
    typed = [
        [source for source in side.sources if not source.label.endswith(tuple(f"/{name}" for name in names))]
        for side in (one, other)
    ]
    yield from _functions(*typed)
    yield from (code_diff.between(name, old.get(name, ""), new.get(name, "")) for name in names)


def _functions(old: Sequence[Source], new: Sequence[Source]) -> Iterator[FileDiff]:
    """Compare typed functions that are not in both: the first with the first, and so on."""
    ours, theirs = ({source.text for source in each} for each in (old, new))
    lacking = [source for source in old if source.text not in theirs], [s for s in new if s.text not in ours]
    for before, after in zip_longest(*lacking):
        labels = dict.fromkeys(source.label for source in (before, after) if source is not None)
        texts = (source.text.splitlines() if source is not None else [] for source in (before, after))
        yield code_diff.of_lines(" → ".join(labels), *texts)
