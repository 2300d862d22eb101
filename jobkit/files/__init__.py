"""What is too large for the store: results, artifacts and whole logs as files, in the home or where `results` points.

The store keeps a sealed reference; what a file holds is sealed as well and checked before it is read. A job's files lie
in one folder, which the store knows (`Store.folder`) and hands out as litter once the job is forgotten.
"""

from jobkit.files.depot import Depot
from jobkit.files.log import LogFile

__all__ = ["Depot", "LogFile"]
