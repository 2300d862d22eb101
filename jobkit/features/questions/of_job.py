"""`job.question()` and `job.answer(...)`."""

from __future__ import annotations

from typing import Any

from jobkit.features.questions.question import Question
from jobkit.tasks.values import MISSING


class JobQuestions:
    """Verbs of a job about its questions."""

    kit: Any
    id: Any

    def question(self) -> Question | None:
        """Return the question that it asks people now (the oldest of several), None if it asks nothing."""
        found: Question | None = self.kit.questions.get(self.id)
        return found

    def answer(self, value: Any = MISSING, /, **values: Any) -> None:
        """Answer the question that it asks: `job.answer(True)` or, with several fields, `job.answer(noise=3)`.

        Raises:
            InvalidParams: the answer is not allowed; names the value.
            QuestionClosed: it was answered before, it is too late, or the job asks nothing.
        """
        self.kit.questions.answer(self.id, values if value is MISSING else value)
