"""Differences between Linux, macOS and other POSIX systems: the only place that uses what one of them lacks.

`processes` reads and kills process trees (from `/proc`, or by psutil), `death` ends processes with their parent, `link`
passes messages and descriptors between two processes, `memory` is about the memory of processes, `own` changes the
process that calls it. Each looks for the feature, not for the name of the system, except where nothing else tells.
"""
