"""Code for the process in which a job runs: `context` has `jobkit.current`, `bars` has `jobkit.progress`.

`capture` and `recorder` take what a job says, `values` renders what it returns and saves, `tracebacks` its errors.
"""
