"""The packages that made a result, as the list that travels with a repetition of its job (`rerun(env="recorded")`).

Facts of what made a job are named by its record, which is not sealed. So the client that repeats it reads and checks
them, and the list becomes part of the new call, which is sealed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

from jobkit.features.shipping.pack import pack_of
from jobkit.model import JobkitError, JobSnapshot

#: Files of a project that say which packages it needs, the first one preferred.
LOCK, PROJECT, REQUIREMENTS = "uv.lock", "pyproject.toml", "requirements.txt"

#: Beside `REQUIREMENTS` in the list of packages that an earlier run had: its version of Python, like "3.11".
PYTHON = "python-version"

#: So many packages at most are installed.
_PACKAGES_MOST = 2_000

#: The worker's own is used.
_OWN = frozenset({"panel-jobkit", "jobkit"})

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,98}[a-z0-9])?", re.ASCII)

#: A version by PEP 440, as in names of directories.
_VERSION = re.compile(
    r"(\d+!)?\d+(\.\d+)*([._]?(a|b|c|rc|alpha|beta|pre|preview)[._]?\d*)?([._]?(post|rev|r)[._]?\d*)?([._]?dev[._]?\d*)?"
    r"(\+[a-z0-9]+([._][a-z0-9]+)*)?",
    re.ASCII | re.IGNORECASE,
)
_PYTHON = re.compile(r"(3\.\d{1,2})\.\d", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40,64}")


def recorded_packages(made: Any, job: JobSnapshot, module: str = "") -> bytes:
    """Return the pack with the packages that a job had, by name and version, and with its version of Python.

    Its comments say what is not as recorded, for the log of the new job.

    Args:
        made: its `MadeBy`, None if that is not known.
        module: of its function, "" if that travels with the call.

    Raises:
        JobkitError: that is not known, or no longer.
    """
    origin = made and _ran_in(made, job)
    if origin is None or origin.facts.local is None or not origin.packages:
        why = "it has not run yet" if job.started_at is None else "they are kept for two weeks longer than a job"
        raise JobkitError(f"the packages that made job {job.id} are not known ({why}): rerun it without env='recorded'")
    python = _PYTHON.match(origin.facts.python)
    if python is None or len(origin.packages) > _PACKAGES_MOST:
        raise JobkitError(
            f"no environment can be built from the record of job {job.id} (Python {origin.facts.python[:20]!r}, "
            f"{len(origin.packages):,} packages): rerun it without env='recorded'"
        )
    notes = [*_notes(origin), *_code_note(made, origin, module)]
    lines = [*(f"# {note}" for note in notes), *_requirements(origin)]
    return pack_of({REQUIREMENTS: "\n".join([*lines, ""]).encode(), PYTHON: python[1].encode()})


def _ran_in(made: Any, job: JobSnapshot) -> Any:
    """Return the facts of the environment that ran a job: for a local worker, that of its submitter."""
    prefix = re.search(r"\((.*)\)", str(job.usage.get("python", "")))
    submitted = made.submitted_from
    if prefix is not None and submitted is not None and submitted.facts.prefix == prefix[1]:
        return submitted
    return made.ran_on


def _requirements(origin: Any) -> Iterator[str]:
    """Yield a line for each package that an index may have; none of them can be an option, path or URL."""
    for name, version in sorted(origin.packages.items()):
        if name not in _OWN and name not in (origin.facts.local or ()) and _is_plain(name, version):
            yield f"{name}=={version}"


def _is_plain(name: str, version: str) -> bool:
    return _NAME.fullmatch(name) is not None and _VERSION.fullmatch(version) is not None


def _notes(origin: Any) -> Iterator[str]:
    local = [name for name in origin.facts.local or () if name in origin.packages and name not in _OWN]
    if local:
        yield (
            f"not as recorded, but as the worker has them, since no index has them: {_listed(local)} (installed from "
            "files or a repository)"
        )
    odd = [name for name, version in origin.packages.items() if name not in local and not _is_plain(name, version)]
    if odd:
        yield f"left out, since name or version is not that of a package: {_listed(odd)}"


def _code_note(made: Any, origin: Any, module: str) -> Iterator[str]:
    top = module.partition(".")[0]
    if top and top not in sys.stdlib_module_names and top.replace("_", "-") not in origin.packages:
        commit = f" (the result was made at {made.commit[:8]})" if _COMMIT.fullmatch(made.commit) else ""
        yield f"the code of {top} is that of today{commit}"


def _listed(names: list[str]) -> str:
    shown = [name if _NAME.fullmatch(name) else repr(name[:50]) for name in sorted(names)]
    return ", ".join(shown[:20]) + (f" and {len(shown) - 20} more" if len(shown) > 20 else "")
