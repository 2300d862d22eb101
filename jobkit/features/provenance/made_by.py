"""Origin of a result: facts of the process that submitted the job and of the worker that ran it; their differences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from jobkit.model.plain import Record, to_json

#: Differences that are listed at most.
_MOST = 50


class GitFacts(Record, frozen=True):
    """The state of a git repository.

    Attributes:
        root: path of its directory.
        commit: full hash, "" before the first commit. branch: "" if HEAD is detached.
        is_dirty: tracked files differ from the commit, or there are untracked ones; None if git did not say.
        changed: lines "M train.py" (modified), "A" (added), "D" (deleted), "?" (untracked), at most 200.
        more: number of further ones.
        diff: name of the kept diff, "" for none. note: what the diff lacks.
        problem: why git did not say more, "" if it did.
    """

    root: str = ""
    commit: str = ""
    branch: str = ""
    is_dirty: bool | None = None
    changed: tuple[str, ...] = ()
    more: int = 0
    diff: str = ""
    note: str = ""
    problem: str = ""

    def __str__(self) -> str:
        """Return "3f2a91c7 on main, 2 files changed"."""
        count = len(self.changed) + self.more
        changes = {None: "changes unknown", False: "clean"}.get(self.is_dirty) or (
            "1 file changed" if count == 1 else f"{count} files changed"
        )
        return f"{self.commit[:8] or 'no commit'} {f'on {self.branch}' if self.branch else '(detached)'}, {changes}"


class ProcessFacts(Record, frozen=True):
    """Facts of a process and its machine.

    Attributes:
        host: name of the machine. system: "Linux 6.1 x86_64". cpu: name of the processor. cores: that it may use.
        gpus: names of the devices.
        python: full version. prefix: of its environment. jobkit: version.
        program: the script or notebook, "" if unknown.
        packages: name of the kept list of installed packages.
        local: those of them that came from files or a repository, not from an index; None if not known.
        env: the environment variables that were asked for (`made_env`), secrets masked.
        git: None outside of a repository.
    """

    host: str = ""
    system: str = ""
    cpu: str = ""
    cores: int = 0
    gpus: tuple[str, ...] = ()
    python: str = ""
    prefix: str = ""
    jobkit: str = ""
    program: str = ""
    packages: str = ""
    local: tuple[str, ...] | None = None
    env: Mapping[str, str] = {}
    git: GitFacts | None = None

    @property
    def machine(self) -> str:
        """One line about host, processor and devices."""
        cpu = f"{self.cpu} ({self.cores} cores)" if self.cpu else ""
        return " · ".join(filter(None, (self.host, self.system, cpu, *self.gpus)))


class Origin(msgspec.Struct, frozen=True):
    """Facts of one process with what they name: installed packages by name, and the text of the diff."""

    facts: ProcessFacts
    packages: Mapping[str, str] = {}
    diff: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the facts as JSON for users, with packages and diff in place of their names."""
        facts: dict[str, Any] = to_json(self.facts)
        git = facts["git"] and {**facts["git"], "diff": self.diff}
        return {**facts, "packages": dict(self.packages), "git": git}


class MadeBy(msgspec.Struct, frozen=True):
    """Origin of a result: code, packages, Python, machine and seed.

    Attributes:
        seed: of the random numbers; None without one.
        submitted_from, ran_on: facts of the submitting process and of the worker; None if they are not kept.
    """

    seed: int | None = None
    submitted_from: Origin | None = None
    ran_on: Origin | None = None

    @property
    def _code(self) -> Origin | None:
        """The process whose repository has the code: the submitter's, if it was in one."""
        both = (self.submitted_from, self.ran_on)
        return next((each for each in both if each is not None and each.facts.git is not None), None)

    @property
    def _git(self) -> GitFacts:
        code = self._code
        return (code.facts.git if code is not None else None) or GitFacts()

    @property
    def _where(self) -> Origin:
        """Facts of the process that ran it; before that is known, of its submitter."""
        return self.ran_on or self.submitted_from or Origin(ProcessFacts())

    @property
    def commit(self) -> str:
        """Full hash of the git commit, "" if unknown."""
        return self._git.commit

    @property
    def branch(self) -> str:
        """Name of the git branch, "" if unknown or detached."""
        return self._git.branch

    @property
    def dirty(self) -> bool | None:
        """True if files differed from the commit; None if unknown."""
        return self._git.is_dirty

    @property
    def changed(self) -> list[str]:
        """Files that differed from the commit, as "M train.py"."""
        return list(self._git.changed)

    @property
    def diff(self) -> str:
        """Diff to the commit, secrets masked; "" if nothing differed or it was not kept."""
        return self._code.diff if self._code is not None else ""

    @property
    def packages(self) -> dict[str, str]:
        """Versions of the packages that were installed for the process that ran it."""
        return dict(self._where.packages)

    @property
    def python(self) -> str:
        return self._where.facts.python

    @property
    def host(self) -> str:
        return self._where.facts.host

    @property
    def cpu(self) -> str:
        return self._where.facts.cpu

    @property
    def gpus(self) -> list[str]:
        return list(self._where.facts.gpus)

    @property
    def env(self) -> dict[str, str]:
        """The environment variables that `made_env` names, of the worker before those of the submitter."""
        submitted = self.submitted_from.facts.env if self.submitted_from is not None else {}
        return {**submitted, **self._where.facts.env}

    @property
    def mismatches(self) -> list[str]:
        """Packages whose versions differ between submitter and worker, as "numpy 2.4 → 2.5"."""
        if self.submitted_from is None or self.ran_on is None:
            return []
        here, there = self.submitted_from.packages, self.ran_on.packages
        both = here.keys() & there.keys()
        return list(_moved({name: here[name] for name in both}, {name: there[name] for name in both}))

    def lines(self) -> list[tuple[str, str]]:
        """Return labels with texts, for a card or a terminal."""
        git, submitted, ran = self._git, self.submitted_from, self.ran_on
        found = [
            ("Code", str(git) if git.root else ""),
            ("Changed files", _listed([*self.changed, *([f"{git.more} more"] if git.more else [])])),
            ("Of git", " · ".join(filter(None, (git.problem, git.note)))),
            ("Program", submitted.facts.program if submitted is not None else ""),
            ("Submitted from", f"{submitted.facts.machine} · Python {submitted.facts.python}" if submitted else ""),
            ("Ran on", f"{ran.facts.machine} · Python {ran.facts.python}" if ran else ""),
            ("Packages", f"{len(self._where.packages)} installed" if self._where.packages else ""),
            ("Other on worker", _listed(self.mismatches)),
            ("Seed", "" if self.seed is None else str(self.seed)),
            ("Environment", _listed([f"{name}={value}" for name, value in self.env.items()])),
        ]
        return [(label, text) for label, text in found if text]

    def differences(self, other: MadeBy) -> list[str]:
        """Return what differs in another result: "numpy 2.4 → 2.5", "train.py changed", at most 50 of them."""
        return list(_differences(self, other))[:_MOST]

    def to_json(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "commit": self.commit,
            "branch": self.branch,
            "dirty": self.dirty,
            "submitted_from": self.submitted_from and self.submitted_from.to_json(),
            "ran_on": self.ran_on and self.ran_on.to_json(),
        }

    def __str__(self) -> str:
        width = max((len(label) for label, _ in self.lines()), default=0)
        return "\n".join(f"{label:<{width}}  {text}" for label, text in self.lines()) or "nothing is known"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))


class JobMadeBy:
    """The verb about what made it that a job has."""

    @property
    def made_by(self: Any) -> MadeBy:
        """Origin of its result: commit, diff, packages, Python, machine, seed; of submitter and worker.

        `print(job.made_by)` shows it, `job.made_by.differences(other.made_by)` what another job has otherwise.
        """
        made: MadeBy = self.kit.made_by(self.id)
        return made


def _differences(one: MadeBy, other: MadeBy) -> Iterator[str]:
    if one.commit != other.commit:
        yield f"commit {one.commit[:8] or 'unknown'} → {other.commit[:8] or 'unknown'}"
    files, others = _by_file(one), _by_file(other)
    yield from (f"{name} changed" for name in {**files, **others} if files.get(name) != others.get(name))
    yield from _moved(one.packages, other.packages)
    pairs = {
        "Python": (one.python, other.python),
        "host": (one.host, other.host),
        "processor": (one.cpu, other.cpu),
        "GPU": (", ".join(one.gpus), ", ".join(other.gpus)),
        "seed": (one.seed, other.seed),
    }
    for name, (old, new) in pairs.items():
        if old != new:
            yield f"{name} {'none' if old in (None, '') else old} → {'none' if new in (None, '') else new}"
    yield from _moved(one.env, other.env)


def _moved(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({**old, **new}):
        if old.get(name) != new.get(name):
            yield f"{name} {old.get(name, 'not there')} → {new.get(name, 'not there')}"


def _by_file(made: MadeBy) -> dict[str, str]:
    """Return what differs from the commit by file; of files without a diff, how."""
    files = {line.partition(" ")[2]: line for line in made.changed}
    return files | sections(made.diff)


def _listed(items: list[str], most: int = 10) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def sections(diff: str) -> dict[str, str]:
    """Return the parts of a diff of git by file."""
    found = {}
    for section in re.split(r"(?m)^(?=diff --git )", diff):
        if section.startswith("diff --git "):
            found[section.split("\n", 1)[0].rpartition(" b/")[2]] = section
    return found
