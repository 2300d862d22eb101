"""Files of jobs that are too large for the store: results, artifacts and whole logs, in the home or in `results`.

The store keeps a sealed reference. File contents are sealed, too, and verified before they are read. Each job has one
folder, which the store knows (`RedisStore.folder`); when the job is deleted, the store lists the folder as orphaned.
"""

from jobkit.files.file_store import FileStore
from jobkit.files.log import LogFile
