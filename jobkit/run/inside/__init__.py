"""Code for the process in which a job runs.

From outside: `context` (`jobkit.current`), `bars` (`jobkit.progress`), `preview`, `artifacts`, `lines.clean`. Behind
them: `capture` and `recorder` take what a job says, `tracebacks` describes its errors.
"""
