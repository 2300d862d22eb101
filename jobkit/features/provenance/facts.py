"""The facts of this process, gathered once, and again when commit, files or packages have changed.

Gathering runs in a thread, and a caller waits for it for a limited time. Between two looks at the files a call costs as
much as reading a clock.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import platform
import socket
import sys
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from jobkit.codec import RAW, Codec, Subject
from jobkit.features.provenance import git, machine
from jobkit.features.provenance.made_by import GitFacts, ProcessFacts
from jobkit.model import SignatureError
from jobkit.settings import Settings
from jobkit.system import hardware

logger = logging.getLogger("jobkit.made")

#: A caller waits so many seconds for git at most.
WAIT_S = 1.0
#: Seconds between two looks at the times of files.
LOOK_S = 1.0
#: All is gathered again after so many seconds, since new files have no time that was seen before.
STALE_S = 60.0

#: Files of changed and of loaded code that are looked at.
_WATCHED_MOST = 500


class Made(NamedTuple):
    """Facts with all that they name. `name`: of the facts themselves, which are one of the contents."""

    name: str
    contents: Mapping[str, bytes]


def name_of(content: bytes) -> str:
    """Return the name under which a content is kept."""
    return hashlib.sha256(content).hexdigest()[:32]


@functools.cache
def _gatherer(how: str, env: str) -> Gatherer:
    names = [name.strip() for name in env.split(",") if name.strip()]
    return Gatherer(has_diff=how != "no-diff", env=names)


def gatherer(settings: Settings) -> Gatherer | None:
    """Return what gathers the facts of this process; None if the settings turn it off."""
    return None if settings.made_by == "off" else _gatherer(settings.made_by, settings.made_env)


class Gatherer:
    """Gathers the facts of this process.

    Args:
        has_diff: also keep the diff of the repository.
        env: names of environment variables, which may contain `*`.
    """

    def __init__(self, *, has_diff: bool = True, env: Sequence[str] = ()) -> None:
        self._has_diff, self._env = has_diff, tuple(env)
        self._lock = threading.Lock()
        self._made: Made | None = None
        self._root = ""
        self._changed: tuple[str, ...] = ()
        self._run: threading.Event | None = None
        self._seen: dict[str, tuple[int, int]] = {}
        self._seen_ns = 0
        self._looked = self._gathered = 0.0
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock, self._run = threading.Lock(), None

    @property
    def is_ready(self) -> bool:
        """True if `current` returns at once."""
        return self._made is not None and time.monotonic() - self._looked < LOOK_S

    def begin(self) -> None:
        """Gather in a thread, so that the first `current` waits only for what is left; no-op if it has begun."""
        with self._lock:
            if self._made is None and self._run is None:
                self._start()

    def _start(self) -> threading.Event:
        run = self._run = threading.Event()
        threading.Thread(target=self._gather, args=(run,), name="jobkit-made", daemon=True).start()
        return run

    def current(self, wait_s: float = WAIT_S) -> Made:
        """Return the facts of now. If git takes longer than `wait_s`, they lack its answer, and later ones have it."""
        made, now = self._made, time.monotonic()
        if made is not None and now - self._looked < LOOK_S:
            return made
        with self._lock:
            is_first, self._looked, run = self._looked == 0, now, self._run
            is_stale = now - self._gathered > STALE_S
            is_changed = made is None or (is_first and is_stale) or self._has_changed()
            has_waited = made is not None and run is not None
            if run is None and (is_changed or is_stale):
                run = self._start()
            if is_changed and run is not None and not has_waited and not run.wait(wait_s):
                known = git.known(self._root) if self._root else None
                self._made = self._facts(known and replace(known, problem="git had not answered yet"), "", ())
        assert self._made is not None
        return self._made

    def _gather(self, run: threading.Event) -> None:
        try:
            self._root = _root()
            seen_ns, seen, facts, diff = time.time_ns(), self._times(), None, ""
            if self._root:
                facts, diff = git.state_of(self._root, has_diff=self._has_diff)
                self._changed = tuple(line.partition(" ")[2] for line in facts.changed)
                seen = self._times()
            self._made = self._facts(facts, diff, hardware.gpus())
            self._seen, self._seen_ns = seen, seen_ns
        except Exception as error:  # a bug of ours must not stop a submit
            logger.exception("the facts of this process could not be gathered")
            self._made = self._facts(GitFacts(self._root, problem=f"{type(error).__name__}: {error}"), "", ())
        self._gathered, self._run = time.monotonic(), None
        run.set()

    def _facts(self, state: GitFacts | None, diff: str, gpus: tuple[str, ...]) -> Made:
        from jobkit import __version__

        contents: dict[str, bytes] = {}
        packages, local = _packages(contents)
        facts = ProcessFacts(
            host=socket.gethostname(),
            system=machine.system(),
            cpu=hardware.processor(),
            cores=hardware.cores(),
            gpus=gpus,
            python=platform.python_version(),
            prefix=sys.prefix,
            jobkit=__version__,
            program=machine.program(),
            packages=packages,
            local=local,
            env=machine.variables(self._env),
            git=state and replace(state, diff=_kept(contents, diff) if diff else ""),
        )
        return Made(_kept(contents, msgspec.json.encode(facts).decode()), contents)

    def _has_changed(self) -> bool:
        """Return whether a file has another time than when all was gathered, or was changed or added since then."""
        for path, found in self._times().items():
            is_older = found[0] < self._seen_ns and path.startswith(self._root or "\0")  # and was loaded since
            if found != self._seen.get(path, found if is_older else None):
                return True
        return False

    def _times(self) -> dict[str, tuple[int, int]]:
        """Return time and size of all files of which a change counts."""
        paths = list(machine.package_folders())
        if self._root:
            changed = [os.path.join(self._root, path) for path in self._changed]
            paths += [*git.watched(self._root), *changed, *_loaded(self._root)][:_WATCHED_MOST]
        return {path: _time(path) for path in paths}


def package_times() -> tuple[tuple[int, int], ...]:
    """Return times and sizes of the directories of installed packages: others after a package was installed."""
    return tuple(map(_time, machine.package_folders()))


def in_environment(made: Made, prefix: str, version: str, folders: Sequence[str] | None = None) -> Made:
    """Return the facts of a job that runs in another Python environment of this machine.

    Args:
        folders: those that it imports from; None for those of this process.
    """
    contents: dict[str, bytes] = {}
    packages, local = _packages(contents, folders)
    facts = msgspec.json.decode(made.contents[made.name], type=ProcessFacts)
    facts = replace(facts, python=version, prefix=prefix, packages=packages, local=local)
    return Made(_kept(contents, msgspec.json.encode(facts).decode()), contents)


def _packages(contents: dict[str, bytes], folders: Sequence[str] | None = None) -> tuple[str, tuple[str, ...]]:
    """Add the list of installed packages to contents; return its name, and the local ones."""
    found, local = machine.packages(folders)
    return _kept(contents, "\n".join(f"{name}=={version}" for name, version in found.items())), local


def _kept(contents: dict[str, bytes], text: str) -> str:
    content = text.encode("utf-8", "replace")
    contents[name_of(content)] = content
    return name_of(content)


def _time(path: str) -> tuple[int, int]:
    with suppress(OSError):
        status = os.stat(path)
        return status.st_mtime_ns, status.st_size
    return 0, 0


def _loaded(root: str) -> list[str]:
    """Return the files of a repository that this process has loaded as modules."""
    # Without `__getattr__` of modules, which some load late.
    files = (getattr(module, "__dict__", {}).get("__file__") for module in list(sys.modules.values()))
    return [file for file in files if type(file) is str and file.startswith(root) and "site-packages" not in file]


def _root() -> str:
    """Return the repository of the notebook or script, else that of the working directory."""
    program = machine.program()
    return (git.root_of(os.path.dirname(program)) if program else "") or git.root_of(os.getcwd())


# -- as the store keeps them: compressed and sealed, under the hash of their content -----------------------------------

#: Larger contents are refused by readers: none that was written is so large.
_MOST_BYTES = 4_000_000


def sealed(made: Made, codec: Codec) -> dict[str, bytes]:
    """Return the contents of facts for the store, by name."""
    return {
        name: codec.seal(RAW, zlib.compress(content), Subject("made", name, ""))
        for name, content in made.contents.items()
    }


def opened(envelope: bytes, name: str, codec: Codec) -> bytes:
    """Return a content. Raises SignatureError if it was not sealed under this name with one of our keys."""
    _, body = codec.verify(envelope, Subject("made", name, ""))
    try:
        content = zlib.decompressobj().decompress(body, _MOST_BYTES)
    except zlib.error:
        content = b""
    if name_of(content) != name:
        raise SignatureError("facts of what made a job are damaged")
    return content
