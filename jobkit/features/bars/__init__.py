"""Bars: progress bars of tqdm and rich are the progress of their job.

For: loops that have such a bar already. `patches.py` changes both libraries in a job's process once they are imported.
It keeps no data. Promise: outside a job the bars stay what they were; an iteration costs what it did.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(name="bars", parts=frozenset({"patches"}))
