"""The store: keeps jobs, and is the only code that changes their state.

`base` defines what a store does; `redis` does it with Redis Functions; `private` starts the server of `sync://`.
"""
