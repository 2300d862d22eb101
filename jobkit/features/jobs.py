"""Verbs of features that a `Job` has, and lists of jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobkit.feature import VerbOf

if TYPE_CHECKING:
    from jobkit.features.checkpoints.checkpoint import JobCheckpoints
    from jobkit.features.provenance.made_by import JobMadeBy
    from jobkit.features.questions.of_job import JobQuestions

    class _TypedJob(JobCheckpoints, JobMadeBy, JobQuestions):
        pass
else:
    _TypedJob = object


class OfJob(_TypedJob):
    """Base of the jobs, with a line for each verb of a feature."""

    if not TYPE_CHECKING:
        answer = VerbOf("questions", "JobQuestions.answer", "Job")
        checkpoints = VerbOf("checkpoints", "JobCheckpoints.checkpoints", "Job")
        made_by = VerbOf("provenance", "JobMadeBy.made_by", "Job")
        question = VerbOf("questions", "JobQuestions.question", "Job")


class OfJobs:
    """Base of the lists of jobs: how they show themselves, unless as a table."""

    view = VerbOf("batches", "view", "jobs")
    __panel__ = VerbOf("batches", "view", "jobs")
    _cell = VerbOf("batches", "cell", "jobs")
