"""Shipping: modules of the user's own that travel with a call, as they were at its submit.

For: people with a notebook or script beside its modules, whose workers are on other machines; the option `ship`. A
submit finds the modules (`packer.py`) and packs them (`pack.py`); the process of the job unpacks the pack, once per
content, and imports from there first (`unpacker.py`).
In Redis: the pack is a large part of its call; nothing else.
Promise: a pack has at most 2,000 files and 20 MB, and no path out of its folder; nothing is run to find modules.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(name="shipping", parts=frozenset({"options", "packer", "unpacker"}))
