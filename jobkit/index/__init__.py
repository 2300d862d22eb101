"""A search index beside the store, created in memory of a process when a query needs it.

Redis stays lean: submitting and ending a job write nothing for the index. It is a temporary SQLite file of the process,
filled from the store, newest jobs first, and updated by events. A page never trusts it: job ids come from the index,
jobs are read from the store and matched again. `schema.py` describes the tables.
"""

from jobkit.index.index import Index

__all__ = ["Index"]
