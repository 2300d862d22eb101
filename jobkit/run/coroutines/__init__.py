"""Attempts as coroutines.

From outside: `runner.CoroutineRunner`. Behind it: `loop` runs them on the worker's own loop, `watch` sees which of them
blocks it.
"""
