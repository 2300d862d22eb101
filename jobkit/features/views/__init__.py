"""Saved views of the list of jobs: a search with its order and columns under a name, kept by user.

For: people who look for the same jobs again. The menu beside the search box has theirs, and some for everybody.
In Redis: `views:{user}`, a hash of views (JSON) by name, kept for two years after the last change.
Promise: a user's views are on every machine, and no other user sees or changes them.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(name="views", parts=frozenset({"menu"}))
