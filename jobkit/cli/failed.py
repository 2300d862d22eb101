"""`jobkit failed`: groups of failed jobs. List, show, retry, delete, mute, resolve."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

import jobkit
from jobkit.cli import out
from jobkit.cli.group import FAILED, BadInput, as_json_option, options
from jobkit.model import FailureGroup, GroupState, JobNotFound, JobSnapshot, JobState
from jobkit.model.format import ago, params_brief

if TYPE_CHECKING:
    from jobkit.client import Kit

_dry = click.option("--dry-run", is_flag=True, help="Print what would be done, without doing it.")

#: Maximum number of groups of one command.
_LISTED = 10_000


@dataclass
class Chosen:
    """Groups and single jobs that a command line selects."""

    groups: list[FailureGroup] = field(default_factory=list)
    job_ids: list[str] = field(default_factory=list)
    older_than: float | None = None
    newer_than: float | None = None

    def ids(self, kit: Kit, *, is_repeated: bool | None = None) -> Iterator[str]:
        """Yield the ids of the jobs, each once; those of a group with the oldest failure first."""
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


def selecting(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options that choose failed jobs. The command gets the kit and a `Chosen` in their place."""

    @functools.wraps(command)
    def with_choice(
        which: tuple[str, ...], task: str | None, everything: bool, older: str | None, newer: str | None, **others: Any
    ) -> int:
        kit = jobkit.connect()
        return command(kit, chosen(kit, which, task, everything, older, newer), **others)

    return options(
        click.argument("which", nargs=-1, metavar="[GROUP_OR_ID]..."),
        click.option("--task", "-t", metavar="NAME", help="The groups of this task that are not muted or resolved."),
        click.option("--all", "-a", "everything", is_flag=True, help="All groups that are not muted or resolved."),
        click.option("--older", metavar="AGE", help="Only jobs that failed more than this ago."),
        click.option("--newer", metavar="AGE", help="Only jobs that failed less than this ago: 30m, 2h, 1d."),
    )(with_choice)


def chosen(
    kit: Kit, which: Sequence[str], task: str | None, everything: bool, older: str | None, newer: str | None
) -> Chosen:
    """Return the groups and jobs that the options choose.

    Raises:
        BadInput: there is no choice, or both names and a rule.
        JobNotFound: there is no such group or job.
    """
    if bool(which) == bool(task or everything):
        raise BadInput("give groups or ids of jobs, or --task NAME, or --all")
    picked = Chosen(
        older_than=None if older is None else out.seconds_of(older, "--older"),
        newer_than=None if newer is None else out.seconds_of(newer, "--newer"),
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
            raise BadInput(f"job {job_id} is {state}; this command is for failed jobs")
        picked.job_ids.append(job_id)
    return picked


def find_group(kit: Kit, name: str) -> FailureGroup | None:
    """Return the group whose id is, or begins with, `name`; None if there is none."""
    try:
        return kit.failure(name)
    except JobNotFound:
        pass
    if not re.fullmatch(r"[0-9a-f]{4,12}", name):
        return None
    found = [group for group in kit.failures(limit=_LISTED) if group.id.startswith(name)]
    if len(found) > 1:
        raise BadInput(f"several ids begin with {name!r}: {', '.join(group.id for group in found[:5])}")
    return found[0] if found else None


def _steps(word: str, total: int) -> Callable[[int], None]:
    """Return a function that prints progress on stderr if there is more than one step."""

    def step(done: int) -> None:
        if done < total:
            out.echo(f"{word} {done:,} of {total:,}", err=True)

    return step


@click.group()
def failed() -> None:
    """Failed jobs in groups: one task, the same error at the same place."""


@failed.command(name="list")
@click.option(
    "--state",
    "-s",
    "states",
    multiple=True,
    type=click.Choice([str(s) for s in GroupState]),
    help="Only groups in this state.",
)
@click.option("--task", "-t", metavar="NAME", help="Only groups of this task.")
@click.option("--all", "-a", "everything", is_flag=True, help="Also muted and resolved groups.")
@as_json_option
def list_groups(states: tuple[str, ...], task: str | None, everything: bool, as_json: bool) -> None:
    """List groups, the newest failure first."""
    kit = jobkit.connect()
    found = kit.failures(states, task=task, limit=_LISTED)
    shown = [group for group in found if states or everything or group.state.needs_a_look]
    now = out.now()
    rows = (
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
    )
    head = ("GROUP", "STATE", "JOBS", "SEEN", "LAST", "TASK", "WHERE", "ERROR")
    out.listing(as_json, (group.to_json() for group in shown), head, rows, empty="No open failures.")
    hidden = len(found) - len(shown)
    if hidden and not as_json:
        out.echo(f"{hidden} more {'is' if hidden == 1 else 'are'} muted or resolved: --all", err=True)


@failed.command()
@click.argument("which", metavar="GROUP_OR_ID")
@click.option(
    "--limit", "-n", type=click.IntRange(1, 1000), default=10, show_default=True, help="Maximum number of its jobs."
)
@as_json_option
def show(which: str, limit: int, as_json: bool) -> None:
    """Show a group: its error, its newest jobs, and the arguments that they share."""
    from jobkit.model.failure import shared

    kit = jobkit.connect()
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
    out.facts(facts)
    if jobs and jobs[0].error is not None:
        out.section("error", out.block(jobs[0].error.traceback or str(jobs[0].error)).splitlines())

    def brief(job: JobSnapshot) -> str:
        return out.one_line(params_brief({name: job.spec.params.get(name) for name in different}))

    out.section("newest", (f"{job.id}  {ago(job.finished_at, now):<12} {brief(job)}" for job in jobs[:limit]))


def _jobs_in_words(group: FailureGroup) -> str:
    text = f"{group.jobs:,} kept"
    if group.repeated:
        text += f", {group.repeated:,} of them retried"
        text += f" ({group.healed:,} succeeded)" if group.healed else ""
    return text


@failed.command()
@selecting
@click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="Change an argument; may be repeated.")
@_dry
@as_json_option
def retry(kit: Kit, picked: Chosen, pairs: tuple[str, ...], dry_run: bool, as_json: bool) -> int:
    """Retry failed jobs, each as a new job, and print the new ids.

    Skips jobs of groups that have been retried already.
    """
    changes = _changes(kit, picked, pairs) if pairs else {}
    ids = list(picked.ids(kit, is_repeated=False))
    if dry_run:
        return _would(ids, f"retried with {params_brief(changes)}" if changes else "retried", as_json)
    came = kit.retry_many(ids, changes=changes, on_step=_steps("submitted", len(ids)))
    if ids:
        out.note(kit, "retry", "job", ids, len(came.refused))
    if as_json:
        out.echo_json({"jobs": came.jobs, "refused": came.refused})
    else:
        for new in came.jobs.values():
            click.echo(new)
        for sentence in came.refused.values():
            out.echo(out.one_line(sentence), err=True)
    out.echo(f"{out.count(len(came.jobs))} submitted", err=True)
    return FAILED if came.refused or not ids else 0


def _changes(kit: Kit, picked: Chosen, pairs: Sequence[str]) -> dict[str, Any]:
    """Return the changed arguments, checked."""
    from jobkit.cli.queues import task_info

    tasks = {group.task for group in picked.groups} | {kit.snapshot(job_id).spec.task for job_id in picked.job_ids}
    if len(tasks) > 1:
        raise BadInput(f"--set needs jobs of one task; these are of {', '.join(sorted(tasks))}")
    return task_info(kit, next(iter(tasks))).changes(pairs) if tasks else {}


@failed.command()
@selecting
@_dry
@as_json_option
def rm(kit: Kit, picked: Chosen, dry_run: bool, as_json: bool) -> int:
    """Delete failed jobs; a group is deleted with its last job."""
    ids = list(picked.ids(kit))
    if dry_run:
        return _would(ids, "deleted", as_json)
    gone = kit.delete_many(ids, on_step=_steps("deleted", len(ids)))
    if ids:
        out.note(kit, "delete", "job", ids, len(ids) - gone)
    if not picked.is_by_age:
        for group in picked.groups:
            kit.forget_group(group.id)
    if as_json:
        out.echo_json({"removed": gone})
    else:
        click.echo(f"{out.count(gone)} deleted")
    return 0 if ids or picked.groups else FAILED


def _change_command(name: str, line: str) -> None:
    """Add a command that changes the state of groups."""

    @failed.command(name=name, help=line)
    @click.argument("groups", nargs=-1, required=True, metavar="GROUP...")
    def command(groups: tuple[str, ...]) -> None:
        kit = jobkit.connect()
        found = [(given, find_group(kit, given)) for given in dict.fromkeys(groups)]
        for given, group in found:
            if group is None:
                raise JobNotFound(f"there is no group of failures {given!r}; `jobkit failed list --all` lists all")
        for _, group in found:
            assert group is not None  # checked above
            getattr(kit, name)(group.id)
            out.note(kit, f"{name}_group", "group", [group.id])
            click.echo(f"{group.id} {kit.failure(group.id).state if group.jobs or name != 'reopen' else 'gone'}")


_change_command("mute", "Mute groups: they are counted, but no longer listed.")
_change_command("resolve", "Resolve groups: they are listed as regressed if they fail again.")
_change_command("reopen", "Reopen muted or resolved groups.")


def _would(ids: Sequence[str], done: str, as_json: bool) -> int:
    if as_json:
        out.echo_json({"would": done, "count": len(ids), "ids": list(ids)})
        return 0
    for job_id in ids:
        click.echo(job_id)
    out.echo(f"{out.count(len(ids))} would be {done}", err=True)
    return 0
