"""Variables hidden from jobs: the key that signs payloads, and our URL, which may hold a password."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

NAMES = ("JOBKIT_SECRET", "JOBKIT_URL")

_taken: dict[str, str] = {}


def without(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment for a process of jobs."""
    return {name: value for name, value in environ.items() if name not in NAMES}


def whole() -> dict[str, str]:
    """The environment of this process as it was, for who starts it over."""
    return {**os.environ, **_taken}


@contextlib.contextmanager
def hiding() -> Iterator[None]:
    """For a process that runs jobs among other things: takes it out of the environment meanwhile."""
    _taken.update({name: os.environ.pop(name) for name in NAMES if name in os.environ})
    try:
        yield
    finally:
        os.environ.update(_taken)
        _taken.clear()
