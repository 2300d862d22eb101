"""`kit.questions`: questions of running jobs to people, listed when called, and answers to them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

import msgspec

from jobkit.client.connection import Connection
from jobkit.client.forms import Noun, on_loop
from jobkit.client.tables import Table
from jobkit.features.questions import requests
from jobkit.features.questions.of_job import JobQuestions as JobQuestions
from jobkit.features.questions.question import Question
from jobkit.model import OpenQuestion
from jobkit.model.cells import Columns
from jobkit.settings import user_name
from jobkit.store.query import ASKING, Query
from jobkit.tasks.params import checked


class AskedQuestion(msgspec.Struct, frozen=True):
    """An open question, and the job that asks it.

    Attributes:
        job: its id. task: its name. key, text, at, due: see `OpenQuestion`.
    """

    job: str
    task: str
    key: str
    text: str
    at: datetime
    due: datetime | None


class QuestionList(Table, list[AskedQuestion]):
    """Open questions, those of the newest job first."""

    COLUMNS: ClassVar[Columns] = {
        "Job": lambda one: one.job,
        "Task": lambda one: one.task,
        "Question": lambda one: one.text,
        "Asked": lambda one: one.at,
        "Until": lambda one: one.due,
    }
    _rare = frozenset({"Until"})
    EMPTY = "No job asks."


class QuestionVerbs:
    """Verbs about questions. Every one may raise `StoreUnavailable`."""

    def __init__(self, kit: Any) -> None:
        self._connection: Connection = kit.connection

    async def list(self, limit: int = 100) -> QuestionList:
        """Open questions of jobs, those of the newest job first.

        Args:
            limit: of at most so many jobs, from 1 to 10000.
        """
        most = checked("limit", limit, "int", min=1, max=10_000)
        page = await self._connection.verbs.page(Query(flag=ASKING, limit=most))
        return QuestionList(
            AskedQuestion(job.id, job.spec.task, one.key, one.text, one.at, one.due)
            for job in page.jobs
            for one in job.asking
        )

    async def get(self, job_id: str, key: str = "") -> Question | None:
        """Return the question that a job asks people now (the oldest of several), or None.

        Args:
            key: of a certain question.

        Raises:
            JobNotFound: the job is not kept.
            SignatureError: its worker did not seal the question for it.
        """
        verbs = self._connection.verbs
        return await requests.read(verbs.store, verbs.codec, await verbs.snapshot(job_id), key)

    async def answer(self, job_id: str, answer: Any, *, by: str | None = None, key: str = "") -> OpenQuestion:
        """Answer the question that a job asks (the oldest of several), and return it. The first answer counts.

        Args:
            answer: values by name, or the one value that is asked for.
            by: who answers; the user of this process unless given.
            key: of a certain question.

        Raises:
            InvalidParams: the answer is not allowed; names the value.
            QuestionClosed: it was answered before, it is too late, or the job asks nothing.
            JobNotFound: the job is not kept.
        """
        verbs, by = self._connection.verbs, user_name() if by is None else by
        snapshot = await verbs.snapshot(job_id)
        return await requests.answer(verbs.store, verbs.codec, snapshot, answer, by=by, key=key)


class Questions(Noun):
    """`kit.questions`: questions of running jobs to people. Called, it lists the open ones.

    Example:
        >>> for question in kit.questions():
        ...     kit.questions.answer(question.job, True, key=question.key)
    """

    _SERVICE = QuestionVerbs

    __call__ = on_loop("verbs", QuestionVerbs.list)
    get = on_loop("verbs", QuestionVerbs.get)
    answer = on_loop("verbs", QuestionVerbs.answer)
