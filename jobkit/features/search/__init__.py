"""A search index beside the store, created in memory of a process when a query needs it.

For: pages and commands that look for some of 100,000 jobs. Redis stays lean: submitting and ending a job write nothing
for the index. It is a temporary SQLite file of the process, filled from the store, newest jobs first, and updated by
events (`index`); `schema` describes the tables.
In Redis: nothing.
Promise: a page never trusts the index: job ids come from it, jobs are read from the store and matched again.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(name="search", parts=frozenset({"index"}))
