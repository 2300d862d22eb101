"""Attempts in separate processes: `runner` starts the `zygote`, which forks; `child` is what runs in the fork.

`attempt` is that process and the job in it, as the worker sees them, `frames` the messages of the two, `output` what C
code prints. `leftovers` are programs that outlive a worker, `state` is what jobs find in their process.
"""
