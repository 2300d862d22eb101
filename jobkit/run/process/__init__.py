"""Attempts in separate processes.

From outside: `runner.ProcessRunner`, and `state` for what jobs do not find in their environment. Behind it: `link`
starts the `zygote`, which forks; `child` is what runs in the fork; `attempt` is that process and the job in it, as the
worker sees them; `frames` are the messages of the two, `output` is what C code prints, and `tree` reads and kills
process trees.
"""
