"""`jobkit failed`: failed jobs in groups. List, show, run again, forget, mute, resolve."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from jobkit.cli import out
from jobkit.cli.group import FAILED, BadInput
from jobkit.model import FailureGroup, GroupState, JobNotFound, JobState
from jobkit.ui.words.format import ago, params_brief

if TYPE_CHECKING:
    from jobkit.client import Kit

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_dry = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_LISTED = 10_000


def seconds_of(text: str, option: str) -> float:
    """Seconds in `90`, `30s`, `15m`, `2h`, `1d` or `1w`.

    Raises:
        BadInput: anything else.
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)\s*([smhdw]?)", text.strip())
    if not found:
        raise BadInput(f"{option} must be an age like 90, 30s, 15m, 2h, 1d or 1w, not {text!r}")
    return float(found[1]) * _UNITS[found[2] or "s"]


@dataclass
class Chosen:
    """What a command line selects: groups, and single jobs."""

    groups: list[FailureGroup] = field(default_factory=list)
    job_ids: list[str] = field(default_factory=list)
    older_than: float | None = None
    newer_than: float | None = None

    def ids(self, kit: Kit, *, is_repeated: bool | None = None) -> Iterator[str]:
        """The jobs: those of groups that failed first first, each once."""
        yield from self.job_ids
        for group in self.groups:
            for job_id in kit.failed_jobs(
                group.id, is_repeated=is_repeated, older_than=self.older_than, newer_than=self.newer_than
            ):
                if job_id not in self.job_ids:
                    yield job_id

    @property
    def is_by_age(self) -> bool:
        return self.older_than is not None or self.newer_than is not None


def selecting(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options by which commands choose jobs."""
    for option in (
        click.option("--newer", metavar="AGE", help="Only what failed less than so long ago: 30m, 2h, 1d."),
        click.option("--older", metavar="AGE", help="Only what failed longer ago than this."),
        click.option("--all", "-a", "everything", is_flag=True, help="All groups that are not muted or resolved."),
        click.option("--task", "-t", metavar="NAME", help="The groups of this task that are not muted or resolved."),
        click.argument("which", nargs=-1, metavar="[GROUP_OR_ID]..."),
    ):
        command = option(command)
    return command


def chosen(
    kit: Kit, which: Sequence[str], task: str | None, everything: bool, older: str | None, newer: str | None
) -> Chosen:
    """What they choose.

    Raises:
        BadInput: nothing, or both by name and by rule. JobNotFound: there is no such group or job.
    """
    if bool(which) == bool(task or everything):
        raise BadInput("give groups or ids of jobs, or --task NAME, or --all")
    picked = Chosen(
        older_than=None if older is None else seconds_of(older, "--older"),
        newer_than=None if newer is None else seconds_of(newer, "--newer"),
    )
    if not which:
        picked.groups = kit.failures(["open", "regressed"], task=task, limit=_LISTED)
        return picked
    for name in dict.fromkeys(which):
        group = find_group(kit, name)
        if group is not None:
            picked.groups.append(group)
            continue
        job_id = out.find(kit, name)
        state = kit.snapshot(job_id).state
        if state is not JobState.FAILED:
            raise BadInput(f"job {job_id} is {state}; these commands are about failed jobs")
        picked.job_ids.append(job_id)
    return picked


def find_group(kit: Kit, name: str) -> FailureGroup | None:
    """The one group whose id is, or begins with, `name`; None where there is none."""
    try:
        return kit.failure(name)
    except JobNotFound:
        pass
    if not re.fullmatch(r"[0-9a-f]{4,12}", name):
        return None
    found = [group for group in kit.failures(limit=_LISTED) if group.id.startswith(name)]
    if len(found) > 1:
        raise BadInput(f"several groups begin with {name!r}: {', '.join(group.id for group in found[:5])}")
    return found[0] if found else None


class _Steps:
    """Says how far it is, on stderr, where there is more than one step."""

    def __init__(self, word: str, total: int) -> None:
        self._word, self._total = word, total

    def __call__(self, done: int) -> None:
        if done < self._total:
            out.echo(f"{self._word} {done:,} of {self._total:,}", err=True)


@click.group()
def failed() -> None:
    """Failed jobs in groups: of one task, with the same error at the same place."""


@failed.command(name="list")
@click.option(
    "--state", "-s", "states", multiple=True, type=click.Choice([str(s) for s in GroupState]), help="Only such groups."
)
@click.option("--task", "-t", metavar="NAME")
@click.option("--all", "-a", "everything", is_flag=True, help="Also those that are muted or resolved.")
@_json
def list_groups(states: tuple[str, ...], task: str | None, everything: bool, as_json: bool) -> None:
    """List groups; what failed last comes first."""
    kit = out.connect()
    found = kit.failures(states, task=task, limit=_LISTED)
    shown = [group for group in found if states or everything or group.state.needs_a_look]
    if as_json:
        out.echo_json([group.to_json() for group in shown])
        return
    now = out.now()
    rows = [
        (
            group.id,
            str(group.state),
            f"{group.jobs:,}",
            f"{group.count:,}",
            ago(group.last_seen, now),
            out.one_line(group.task),
            out.one_line(group.where),
            out.one_line(group.title),
        )
        for group in shown
    ]
    if rows:
        out.table(("GROUP", "STATE", "JOBS", "SEEN", "LAST", "TASK", "WHERE", "ERROR"), rows)
    else:
        out.echo("No failures to look at.", err=True)
    if hidden := len(found) - len(shown):
        out.echo(f"{hidden} more {'is' if hidden == 1 else 'are'} muted or resolved: --all", err=True)


@failed.command()
@click.argument("which", metavar="GROUP_OR_ID")
@click.option("--limit", "-n", type=click.IntRange(1, 1000), default=10, show_default=True, help="So many of its jobs.")
@_json
def show(which: str, limit: int, as_json: bool) -> None:
    """One group: its error, its newest jobs, and which arguments they have in common."""
    from jobkit.model.failure import shared

    kit = out.connect()
    group = find_group(kit, which)
    if group is None:
        job_id = out.find(kit, which)
        (of,) = kit.groups_of([job_id])
        if not of:
            raise BadInput(f"job {job_id} is {kit.snapshot(job_id).state}; it is in no group of failures")
        group = kit.failure(of)
    jobs = kit.failed_snapshots(group.id, limit=max(limit, 100))
    same, different = shared(job.spec.params for job in jobs)
    if as_json:
        more = {"shared": same, "different": different, "newest": [job.to_json() for job in jobs[:limit]]}
        out.echo_json({**group.to_json(), **more})
        return
    now = out.now()
    out.echo(out.one_line(group.title), bold=True)
    by = f" by {out.one_line(group.changed_by)}" if group.changed_by else ""
    said = f"{by} {ago(group.changed_at, now)}" if group.changed_at else ""
    facts = [
        ("group", group.id),
        ("task", out.one_line(group.task)),
        ("where", out.one_line(group.where)),
        ("state", f"{group.state}{said}"),
        ("seen", f"{group.count:,} times, first {ago(group.first_seen, now)}, last {ago(group.last_seen, now)}"),
        ("jobs", _jobs_in_words(group)),
        ("all with", out.one_line(params_brief(same, limit=2000))),
        ("differ in", out.one_line(", ".join(different))),
    ]
    for name, value in facts:
        if value:
            out.echo(f"  {name:<10} {value}")
    if jobs and jobs[0].error is not None:
        out.echo("error", bold=True)
        text = out.block(jobs[0].error.traceback or str(jobs[0].error))
        out.echo("\n".join(f"  {line}" for line in text.splitlines()))
    if jobs:
        out.echo("newest", bold=True)
        for job in jobs[:limit]:
            brief = out.one_line(params_brief({name: job.spec.params.get(name) for name in different}))
            out.echo(f"  {job.id}  {ago(job.finished_at, now):<12} {brief}".rstrip())


def _jobs_in_words(group: FailureGroup) -> str:
    text = f"{group.jobs:,} kept"
    if group.repeated:
        text += f", {group.repeated:,} of them run again"
        text += f" ({group.healed:,} succeeded)" if group.healed else ""
    return text


@failed.command()
@selecting
@click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="Another value for an argument.")
@_dry
@_json
def retry(
    which: tuple[str, ...],
    task: str | None,
    everything: bool,
    older: str | None,
    newer: str | None,
    pairs: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> int:
    """Run failed jobs again, each as a new job; prints the new ids.

    Of groups, only those that nobody has run again yet.
    """
    kit = out.connect()
    picked = chosen(kit, which, task, everything, older, newer)
    changes = _changes(kit, picked, pairs) if pairs else {}
    ids = list(picked.ids(kit, is_repeated=False))
    if dry_run:
        return _would(ids, f"run again with {params_brief(changes)}" if changes else "run again", as_json)
    came = kit.retry_many(ids, changes=changes, on_step=_Steps("submitted", len(ids)))
    if ids:
        out.note(kit, "retry", "job", ids, len(came.refused))
    if as_json:
        out.echo_json({"jobs": came.jobs, "refused": came.refused})
    else:
        for new in came.jobs.values():
            click.echo(new)
        for sentence in came.refused.values():
            out.echo(out.one_line(sentence), err=True)
    out.echo(_count(len(came.jobs), "submitted"), err=True)
    return FAILED if came.refused or not ids else 0


def _changes(kit: Kit, picked: Chosen, pairs: Sequence[str]) -> dict[str, Any]:
    """The changed arguments, checked."""
    from jobkit.cli.act import task_info

    tasks = {group.task for group in picked.groups} | {kit.snapshot(job_id).spec.task for job_id in picked.job_ids}
    if len(tasks) > 1:
        raise BadInput(f"--set is for jobs of one task, and these are of {', '.join(sorted(tasks))}")
    return task_info(kit, next(iter(tasks))).changes(pairs) if tasks else {}


@failed.command()
@selecting
@_dry
@_json
def rm(
    which: tuple[str, ...],
    task: str | None,
    everything: bool,
    older: str | None,
    newer: str | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Forget failed jobs, with their logs; a group goes with its last job."""
    kit = out.connect()
    picked = chosen(kit, which, task, everything, older, newer)
    ids = list(picked.ids(kit))
    if dry_run:
        return _would(ids, "removed", as_json)
    gone = kit.delete_many(ids, on_step=_Steps("removed", len(ids)))
    if ids:
        out.note(kit, "delete", "job", ids, len(ids) - gone)
    if not picked.is_by_age:
        for group in picked.groups:
            kit.forget_group(group.id)
    if as_json:
        out.echo_json({"removed": gone})
    else:
        click.echo(_count(gone, "removed"))
    return 0 if ids or picked.groups else FAILED


def _judging(name: str, line: str) -> None:
    """Makes the command that says what is thought of groups."""

    @failed.command(name=name, help=line)
    @click.argument("groups", nargs=-1, required=True, metavar="GROUP...")
    def command(groups: tuple[str, ...]) -> None:
        kit = out.connect()
        found = [(given, find_group(kit, given)) for given in dict.fromkeys(groups)]
        for given, group in found:
            if group is None:
                raise JobNotFound(f"there is no group of failures {given!r}; `jobkit failed list --all` has all")
        for _, group in found:
            assert group is not None  # looked at above
            getattr(kit, name)(group.id)
            out.note(kit, f"{name}_group", "group", [group.id])
            click.echo(f"{group.id} {kit.failure(group.id).state if group.jobs or name != 'reopen' else 'gone'}")


_judging("mute", "Known, not to be listed any more; goes on counting.")
_judging("resolve", "Mended: when it fails again, it is listed as regressed.")
_judging("reopen", "Take back what was said of a group.")


def _would(ids: Sequence[str], done: str, as_json: bool) -> int:
    if as_json:
        out.echo_json({"would": done, "count": len(ids), "ids": list(ids)})
        return 0
    for job_id in ids:
        click.echo(job_id)
    out.echo(f"{len(ids):,} job{'' if len(ids) == 1 else 's'} would be {done}", err=True)
    return 0


def _count(count: int, done: str) -> str:
    return f"{count:,} job{'' if count == 1 else 's'} {done}"
