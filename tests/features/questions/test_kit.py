"""`kit.questions`."""

from __future__ import annotations

import pytest

import jobkit
from tests.ui.stage import Stage


def test_open_questions_are_listed_with_their_jobs_and_answered(stage: Stage) -> None:
    first, second = stage.running(), stage.running()
    kit, keys = stage.kit, {job: stage.ask(job, bool, f"Publish {job}?", timeout_s=3600) for job in (first, second)}

    asked = kit.questions()
    assert [(one.job, one.key, one.text) for one in asked] == [
        (job, keys[job], f"Publish {job}?") for job in (second, first)
    ]
    assert asked[0].due is not None
    assert f"Publish {first}?" in str(asked)
    assert len(kit.questions(limit=1)) == 1

    kit.questions.answer(second, True, key=keys[second])
    kit.get(first).answer(False)

    assert kit.questions() == []
    assert str(kit.questions()) == "No job asks."
    assert kit.questions.get(first) is None
    with pytest.raises(jobkit.QuestionClosed, match="was answered"):
        kit.questions.answer(first, True, key=keys[first])
