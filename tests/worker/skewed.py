"""Task module that shifts the clock of its worker by `JOBKIT_TEST_SKEW` seconds."""

from __future__ import annotations

import os
import time

_right = time.time
_skew_s = float(os.environ.get("JOBKIT_TEST_SKEW", "0"))

time.time = lambda: _right() + _skew_s
time.time_ns = lambda: int((_right() + _skew_s) * 1e9)
