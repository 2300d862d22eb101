"""One attempt: from a call's bytes to its outcome. Knows neither arq nor Redis.

`attempt` has what a worker and a runner exchange, and how a call becomes an outcome. The runners: `process.runner` (a
child that can always be stopped) and `shared` (the worker's loop, threads, `sync://`). `placement` chooses between
them, `watch` stops what blocks the loop, and `inside` is what the job's own process uses.
"""
