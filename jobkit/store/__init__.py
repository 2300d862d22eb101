"""Where jobs are kept, and the only code that moves them.

`base` says what a store does; `redis` does it with Lua transitions, `private` starts the server of `sync://`.
"""
