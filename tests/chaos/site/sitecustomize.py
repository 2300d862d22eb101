"""Applies the deliberate fault of a run (`CHAOS_FAULT`) in each of its Python processes, supervisors and commands too.

This folder is on the `PYTHONPATH` of such a run only.
"""

import os

from tests.chaos import faults

faults.apply(os.environ.get("CHAOS_FAULT", ""))
