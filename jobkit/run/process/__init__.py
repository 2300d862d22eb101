"""Attempts in separate processes.

From outside: `runner.ProcessRunner`, `environments.Environments`, `hidden` (what jobs do not find in their
environment). Behind it: `link` starts the `zygote`, which forks; `child` is what runs in the fork; `child_process` is
that process and `attempt` the job in it, as the worker sees them; `frames` and `pipe` are how the two talk.
"""
