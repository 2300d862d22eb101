"""Parts that launchers share: programs of an engine (`sbatch`, `ssh`), private files of units, words of an engine."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jobkit.access.own_machine import write_private
from jobkit.features.pools.launcher import EngineUnavailable, LaunchRefused
from jobkit.model import InvalidParams
from jobkit.settings import Settings

#: Bytes at the end of a log in which the last line is looked for, and characters of it that are shown.
_TAIL_BYTES, _LINE_CHARS = 4_000, 300

_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x1f\x7f-\x9f]")


class Ran(NamedTuple):
    """Exit status and output of a program."""

    status: int
    out: str
    err: str


async def run(
    argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 60.0, env: Mapping[str, str] | None = None
) -> Ran:
    """Run a program, with input that no other user can see.

    Raises:
        LaunchRefused: it is not installed here.
        EngineUnavailable: it does not end in time.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=env,
        )
    except FileNotFoundError:
        raise LaunchRefused(f"{argv[0]} was not found on {os.uname().nodename}") from None
    except OSError as error:
        raise LaunchRefused(f"{argv[0]} cannot be started: {error.strerror or error}") from None
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate(stdin)
    except TimeoutError:
        raise EngineUnavailable(f"{argv[0]} did not answer within {timeout_s:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return Ran(process.returncode or 0, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


def plain(text: str) -> str:
    """Return a line of an output without colours and control characters."""
    return _CONTROLS.sub("", text).strip()


def last_line(text: str, otherwise: str = "") -> str:
    """Return the last line of an output that says something."""
    lines = [line for each in text.splitlines() if (line := plain(each))]
    return lines[-1][:_LINE_CHARS] if lines else otherwise


def exports(environment: Mapping[str, str]) -> str:
    """Return lines of a shell that set variables, and that are as secret as these."""
    named = ((name, value) for name, value in environment.items() if name.isidentifier())
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in named)


def checked_line(name: str, value: str) -> str:
    """Return a value that may stand in a line of a script. Raises InvalidParams for one with a line break."""
    if "\n" in value or "\r" in value or "\0" in value:
        raise InvalidParams(f"{name} must be one line, not {value!r}", name)
    return value


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
    said = last_line(facts["tail"])
    last = f": {said}" if said else ""
    if last.endswith("No module named jobkit"):
        last += "; install panel-jobkit there, or name a Python that has it: python="
    if status is None:
        return last.removeprefix(": ")
    how = f"ended by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"worker {how}{last}"


class PrivateFolder:
    """Folder of a pool's files in the home, which only its user can read."""

    def __init__(self, pool: str, root: str = "") -> None:
        base = Path(root).expanduser() if root else Settings.load().home / "pools"
        self.path = base / pool

    def write(self, name: str, text: str) -> Path:
        """Write a file of this user alone. Raises LaunchRefused if that is not possible."""
        path = self.path / name
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
            write_private(path, text)
        except OSError as error:
            raise LaunchRefused(f"{path} cannot be written: {error.strerror or error}") from None
        return path

    def last_line(self, name: str) -> str:
        """Return the last line of a log; "" if there is none."""
        try:
            with (self.path / name).open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - _TAIL_BYTES))
                return last_line(file.read().decode("utf-8", "replace"))
        except OSError:
            return ""

    def tidy(self, pattern: str, keep: frozenset[str], older_s: float) -> None:
        """Delete files that are not kept and are older than that (seconds)."""
        for path in self.path.glob(pattern):
            with contextlib.suppress(OSError):
                if path.name not in keep and time.time() - path.stat().st_mtime > older_s:
                    path.unlink()
