"""The store: keeps jobs, and is the only code that changes their state.

`redis` has the verbs for jobs and workers; `schedules`, `failures`, `finding` and `web` are its other parts. `library`
assembles the Redis Functions in `lua/`; `private` starts the server of `sync://`.
"""
