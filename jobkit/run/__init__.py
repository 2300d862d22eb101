"""One attempt: from a call's bytes to its outcome. Knows neither arq nor Redis.

`base` says what a worker and a runner exchange, `attempt` what an outcome is. The runners: `process.runner` (a child
that can always be stopped), `process.environments` (the same in the submitter's Python), `coroutines.runner`
(`async def`), `threads` (and `run_here` of `sync://`). `inside` is what the job's own process uses.
"""
