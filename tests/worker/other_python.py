"""Task module that makes its worker one of Python 3.99."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from jobkit.store.values import WorkerInfo
from jobkit.worker import about

_right = about.identify


def _identify(*args: Any) -> WorkerInfo:
    return replace(_right(*args), python="3.99")


about.identify = _identify
