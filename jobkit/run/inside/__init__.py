"""Code for the process in which a job runs.

From outside: `context` (`jobkit.current`), `progress`, `preview`, `artifacts`, `lines.clean`, `frame_locals`. Behind
it: `capture` and `recorder` take what a job says, `tqdm_hook` and `rich_hook` follow its bars, `tracebacks` tells its
errors.
"""
