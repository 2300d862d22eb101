"""Finding jobs fast where there are many: an index beside the store, made when somebody asks for what needs it.

Redis stays lean: submitting and ending a job write nothing for it. The index is a file of SQLite that goes with its
process; it is filled from the store, newest first, kept up by its events, and never believed: what a page shows is read
from the store and checked again. `schema.py` says what is in it, for other questions that SQL answers.
"""

from jobkit.index.index import Index

__all__ = ["Index"]
