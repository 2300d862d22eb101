"""Python environments of projects: built by uv from a lock that came with a job, once per content.

An environment is a folder by the SHA-256 of the project's files and of the worker's Python. One process builds it,
under a lock of the file system; others wait. uv holds the lock, too, since it may outlive a worker that is killed. At
last the environment gets a file by which it finds the worker's own packages behind those of the project, so that its
jobs find jobkit.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import site
import sys
import sysconfig
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from jobkit.codec import Codec, Subject
from jobkit.files.file_store import temporary
from jobkit.model import JobkitError, SignatureError
from jobkit.store.values import Claimed
from jobkit.tasks.call import Environment, Located, content_of, read_head
from jobkit.tasks.code import LOCK, REQUIREMENTS, private, unpacked

#: A build may take so many seconds. Its progress is told so often.
_LIMIT_S, _TELL_S = 1_800.0, 1.0

#: File of a finished environment.
_READY = "jobkit-ready"

#: An environment that was not used for so many seconds is deleted by the next build.
_KEPT_S = 30 * 86_400.0

#: Of what uv said, an error has so many characters.
_SAID = 600


class NotBuilt(JobkitError):
    """The environment of a project could not be built; the message is the sentence for the user."""


class ProjectEnvironments:
    """Builds environments and finds those that are built. `below`: folder of this user alone."""

    def __init__(self, below: Path | None = None) -> None:
        self._below = below or temporary() / f"jobkit-envs-{os.getuid()}"

    async def of_call(
        self, claimed: Claimed, codec: Codec, located: Mapping[str, Located], tell: Callable[[str], None]
    ) -> Environment | None:
        """Return the environment of the project that came with a call; None for none. See `ready`."""
        spec = claimed.spec
        _, call = codec.verify(claimed.payload, Subject("args", spec.id, spec.task))
        head = replace(read_head(call), located=dict(located))
        if head.project is None:
            return None
        if not codec.allow_pickle:
            raise SignatureError("it chooses packages, and those need a signing key (JOBKIT_SECRET)")
        content = await asyncio.to_thread(content_of, head, head.project)
        return await self.ready(content, head.project.name, tell)

    async def ready(self, content: bytes, name: str, tell: Callable[[str], None]) -> Environment:
        """Return the environment of a project, built if needed.

        Args:
            content: pack of the project's files. name: its SHA-256. tell: shows what happens.

        Raises:
            NotBuilt: uv is not here, or could not build it. SignatureError, OSError: see `code.unpacked`.
        """
        digest = hashlib.sha256(f"{name}\0{sys.executable}\0{sys.version}".encode()).hexdigest()[:32]
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
        return Environment(str(prefix), str(prefix / "bin" / "python"), platform.python_version())

    async def _build(self, content: bytes, name: str, prefix: Path, lock: int) -> None:
        uv = shutil.which("uv")
        if uv is None:
            raise NotBuilt(f"env='project' needs uv on {platform.node()}: {sys.executable} -m pip install uv")
        await _whole(shutil.rmtree, prefix, ignore_errors=True)  # of a build that was killed
        await asyncio.to_thread(_sweep, self._below)
        project = await asyncio.to_thread(unpacked, content, name, self._below / "projects")
        await _run(lock, project, uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(prefix))
        requirements = project / REQUIREMENTS
        if (project / LOCK).is_file():
            requirements = self._below / f"{prefix.name}.txt"
            export = (
                "export",
                "--quiet",
                "--frozen",
                "--no-emit-project",
                "--no-hashes",
                "--output-file",
                str(requirements),
            )
            await _run(lock, project, uv, *export)
        python = str(prefix / "bin" / "python")
        install = ("pip", "install", "--quiet", "--python", python, "--requirements", str(requirements))
        await _run(lock, project, uv, *install)
        await asyncio.to_thread(_add_own_packages, prefix)


def _sweep(below: Path) -> None:
    for ready in below.glob(f"*/{_READY}"):
        with contextlib.suppress(OSError):
            if ready.stat().st_mtime < time.time() - _KEPT_S:
                ready.unlink()  # first: what is half deleted is built again
                shutil.rmtree(ready.parent)


def _add_own_packages(prefix: Path) -> None:
    """Let the environment find the worker's own packages behind its own."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()])
    lines = [f"import site; site.addsitedir({path!r})\n" for path in own if path]
    (prefix / "lib" / version / "site-packages" / "jobkit-worker.pth").write_text("".join(lines), "utf-8")
    (prefix / _READY).touch()


async def _whole(function: Callable[..., object], *args: Any, **options: Any) -> None:
    """Run a function in a thread, which does not outlast this, also if this is cancelled: the lock ends then."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *args, **options))
    try:
        await asyncio.shield(running)
    finally:
        await asyncio.wait([running])


async def _run(lock: int, folder: Path, *command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, pass_fds=(lock,), env={**os.environ, "NO_COLOR": "1", "VIRTUAL_ENV": ""},
    )  # fmt: skip
    try:
        async with asyncio.timeout(_LIMIT_S):
            said, _ = await process.communicate()
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if isinstance(error, TimeoutError):
            raise NotBuilt(
                f"the project's environment was not built within {_LIMIT_S:g} s on {platform.node()}"
            ) from None
        raise
    if process.returncode:
        text = said.decode("utf-8", "replace").strip()[-_SAID:]
        raise NotBuilt(f"the project's environment could not be built on {platform.node()} (uv {command[1]}): {text}")


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
