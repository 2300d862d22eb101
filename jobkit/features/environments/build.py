"""Python environments that the worker builds for jobs, by uv, once per content.

The list of packages comes with the job: the files of its project, or what an earlier run of it had (`env.py`).
An environment is a folder by the SHA-256 of that list and of the worker's Python. One process builds it, under a lock
of the file system; others wait. uv holds the lock, too, since it may outlive a worker that is killed. At last the
environment gets a file by which it finds the worker's own packages behind its own, so that its jobs find jobkit.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import site
import sys
import sysconfig
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from jobkit.features.environments.recorded import LOCK, PYTHON, REQUIREMENTS
from jobkit.features.shipping.pack import files_of, private, unpacked
from jobkit.files.file_store import temporary
from jobkit.model.errors import CannotStart
from jobkit.tasks.call import Environment, python_version

#: A build may take so many seconds. Its progress is told so often.
_LIMIT_S, _TELL_S = 1_800.0, 1.0

#: File of a finished environment: its version of Python.
_READY = "jobkit-ready"

#: File in it that adds the worker's own packages.
_OWN_PACKAGES = "jobkit-worker.pth"

#: Files at which uv ends its search for settings and for the workspace of a project. Above them is the directory for
#: temporary files, where any user of the machine may have put some, which would choose indexes and packages.
_BOUNDS = {"uv.toml": "", "pyproject.toml": '[project]\nname = "jobkit-environments"\nversion = "0"\n'}

#: An environment that was not used for so many seconds is deleted by the next build.
_KEPT_S = 30 * 86_400.0

#: Of what uv said, an error has so many characters.
_SAID = 600


class NotBuilt(CannotStart):
    """An environment could not be built; the message is the sentence for the user. `said`: what uv said."""

    def __init__(self, message: str, said: str = "") -> None:
        super().__init__(message)
        self.said = said


class Environments:
    """Builds environments and finds those that are built. `below`: folder of this user alone."""

    def __init__(self, below: Path | None = None) -> None:
        self._below = below or temporary() / f"jobkit-envs-{os.getuid()}"

    async def ready(self, content: bytes, name: str, tell: Callable[[str], None]) -> tuple[Environment, list[str]]:
        """Return the environment for a list of packages, built if needed, and the folders that it imports from.

        Args:
            content: pack of the list. name: its SHA-256. tell: shows what happens.

        Raises:
            NotBuilt: uv is not here, or could not build it. SignatureError, OSError: see `code.unpacked`.
        """
        identity = f"{_identity(content) or name}\0{sys.executable}\0{sys.version}"
        digest = hashlib.sha256(identity.encode()).hexdigest()[:32]
        prefix = self._below / digest
        await asyncio.to_thread(private, self._below)
        if not (prefix / _READY).exists():
            began = time.monotonic()
            telling = asyncio.create_task(_telling(tell, began))
            try:
                async with _locked(self._below / f"{digest}.lock") as lock:
                    if not (prefix / _READY).exists():
                        await self._build(content, name, prefix, lock)
            finally:
                telling.cancel()
            tell("")
        os.utime(prefix / _READY)
        version = (prefix / _READY).read_text("utf-8")
        [folder] = (prefix / "lib").glob("python*/site-packages")
        own = sys.path if (folder / _OWN_PACKAGES).exists() else ()
        return Environment(str(prefix), str(prefix / "bin" / "python"), version), [str(folder), *own]

    async def _build(self, content: bytes, name: str, prefix: Path, lock: int) -> None:
        await _whole(shutil.rmtree, prefix, ignore_errors=True)  # of a build that was killed
        for file, text in _BOUNDS.items():
            (self._below / file).write_text(text, "utf-8")
        await asyncio.to_thread(_sweep, self._below)
        folder = await asyncio.to_thread(unpacked, content, name, self._below / "projects")
        if (folder / PYTHON).is_file():
            await _Recorded(folder, prefix, lock).build()
        else:
            await _OfProject(folder, prefix, lock).build()
        await asyncio.to_thread(_finish, prefix)


class _OfProject:
    """One build of the environment of a project, whose files are in `folder`. Raises NotBuilt."""

    what, option = "the project's environment", "env='project'"

    def __init__(self, folder: Path, prefix: Path, lock: int) -> None:
        self._folder, self._prefix, self._lock = folder, prefix, lock
        self._python = str(prefix / "bin" / "python")
        self._requirements = folder / REQUIREMENTS

    async def build(self) -> None:
        await self._create(sys.executable)
        if (self._folder / LOCK).is_file():
            self._requirements = self._prefix.with_suffix(".txt")
            options = ("--quiet", "--frozen", "--no-emit-project", "--no-hashes")
            await self._uv("export", *options, "--output-file", str(self._requirements))
        await self._install()

    async def _create(self, python: str) -> None:
        await self._uv("venv", "--quiet", "--no-project", "--python", python, str(self._prefix))

    async def _install(self, *options: str) -> None:
        to, of = ("--python", self._python), ("--requirements", str(self._requirements))
        await self._uv("pip", "install", "--quiet", *options, *to, *of)

    async def _uv(self, *arguments: str) -> None:
        host = platform.node()
        if (uv := shutil.which("uv")) is None:
            raise NotBuilt(f"{self.option} needs uv on {host}: {sys.executable} -m pip install uv")
        process = await asyncio.create_subprocess_exec(
            uv, *arguments, cwd=self._folder, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, pass_fds=(self._lock,),
            env={**os.environ, "NO_COLOR": "1", "VIRTUAL_ENV": ""},
        )  # fmt: skip
        try:
            async with asyncio.timeout(_LIMIT_S):
                output, _ = await process.communicate()
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            if isinstance(error, TimeoutError):
                raise NotBuilt(f"{self.what} was not built within {_LIMIT_S:g} s on {host}") from None
            raise
        if process.returncode:
            said = output.decode("utf-8", "replace").strip()
            text = f"{self.what} could not be built on {host} (uv {arguments[0]}): {said[-_SAID:]}"
            raise NotBuilt(text, said)


class _Recorded(_OfProject):
    """One build of an environment with the packages that an earlier run had: these versions and no others."""

    what, option = "the recorded environment", "env='recorded'"

    async def build(self) -> None:
        version = (self._folder / PYTHON).read_text("utf-8")
        try:
            await self._create(sys.executable if version == python_version() else version)
        except NotBuilt as error:
            if not error.said or version == python_version():
                raise
            raise NotBuilt(
                f"the result was made with Python {version}, which is not on {platform.node()}: "
                f"uv python install {version}"
            ) from None
        try:
            await self._install("--no-deps")  # all of them are in the list
        except NotBuilt as error:
            if (package := self._unavailable(error.said)) is None:
                raise
            offline = ", which may not use the network (UV_OFFLINE)" if "network was disabled" in error.said else ""
            raise NotBuilt(
                f"{package}, with which the result was made, cannot be had on {platform.node()} any more: it is in "
                f"no index or cache of uv there{offline}"
            ) from None

    def _unavailable(self, said: str) -> str | None:
        """Return the line of the package that uv has not found."""
        for line in self._requirements.read_text("utf-8").splitlines() if "No solution found" in said else ():
            if re.search(rf"(?<![\w.-]){re.escape(line)}(?![\w+-]|\.\d)", said):
                return line
        return None


def notes_of(content: bytes) -> list[str]:
    """Return the comments of a recorded list of packages, which say what is not as recorded."""
    return [line.removeprefix("# ") for line in _recorded_lines(content) if line.startswith("#")]


def _identity(content: bytes) -> str:
    """Return what is equal for recorded lists of the same packages, "" for a list that was not recorded."""
    return "\n".join(line for line in _recorded_lines(content) if not line.startswith("#"))


def _recorded_lines(content: bytes) -> list[str]:
    files = files_of(content)
    if PYTHON not in files:
        return []
    return [files[PYTHON].decode(), *files[REQUIREMENTS].decode("utf-8", "replace").splitlines()]


def _sweep(below: Path) -> None:
    for ready in below.glob(f"*/{_READY}"):
        with contextlib.suppress(OSError):
            if ready.stat().st_mtime < time.time() - _KEPT_S:
                ready.unlink()  # first: what is half deleted is built again
                shutil.rmtree(ready.parent)


def _finish(prefix: Path) -> None:
    """Let the environment find the worker's own packages behind its own; of another Python version jobkit alone."""
    [folder] = (prefix / "lib").glob("python*/site-packages")
    if folder.parent.name == f"python{python_version()}":
        own = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()])
        lines = [f"import site; site.addsitedir({path!r})\n" for path in own if path]
        (folder / _OWN_PACKAGES).write_text("".join(lines), "utf-8")
    else:
        (folder / "jobkit").symlink_to(Path(__file__).parents[2])
    config = (prefix / "pyvenv.cfg").read_text("utf-8")
    version = re.search(r"(?m)^version(?:_info)? *= *(\S+)", config)
    aside = prefix / f"{_READY}.new"
    aside.write_text(version[1] if version else "", "utf-8")
    aside.rename(prefix / _READY)


async def _whole(function: Callable[..., object], *args: Any, **options: Any) -> None:
    """Run a function in a thread, which does not outlast this, also if this is cancelled: the lock ends then."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *args, **options))
    try:
        await asyncio.shield(running)
    finally:
        await asyncio.wait([running])


@contextlib.asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[int]:
    """Hold the lock of a file, which ends with the last process that has its descriptor; yield that."""
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(0.2)
        yield file.fileno()


async def _telling(tell: Callable[[str], None], began: float) -> None:
    while True:
        tell(f"building the environment, {time.monotonic() - began:.0f} s")
        await asyncio.sleep(_TELL_S)
