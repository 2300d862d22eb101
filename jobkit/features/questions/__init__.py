"""Questions of running jobs to people: `jobkit.ask(...)` in a job waits for the answer of a person.

For: jobs that need a judgement, which a page, `jobkit answer`, HTTP or Python gives.
In Redis: `asks:{id}` has questions and answers of a job, sealed; `asking` finds the jobs that ask. The record's field
`asking` lists the open questions.
Promise: the first answer to a question counts, and each attempt of the job gets it. A job with a fresh checkpoint waits
without a slot.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(
    name="questions",
    parts=frozenset({"requests", "routes", "actions", "card_section", "history"}),
    hashes=("asks",),
    commands={"answer": "Answer the question of a job, or show it."},
)
