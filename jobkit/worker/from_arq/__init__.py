"""arq's users' way in: `Worker` takes what `arq.worker.Worker` takes, and runs plain arq functions.

A queue of arq's stays what it was: arq's client enqueues, arq's `Job` reads. What stands in it gets a record here, and
so leases, live status and a place in the dashboard; `docs/from-arq.md` says what is the same and what is better.
"""
