"""`jobkit doctor`: a line for each check of this machine, the server and the workers.

For: people whose jobs do not run, and who want one command that says why. Other features add lines by their `doctor`.
In Redis: keeps nothing; with `--remove-damaged` it deletes records and keys that cannot be read.
Promise: it starts nothing, and each line that is not ok says what to do.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(name="doctor", commands={"doctor": "Check the configuration, the server and the workers."})
