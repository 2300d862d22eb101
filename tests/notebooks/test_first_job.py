"""The tutorial notebook of the first job, run as a user runs it, with a new embedded server."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from tests.support import ROOT

from .conftest import KERNELS, cell_with, notebook_of, run, text_of

NOTEBOOK = ROOT / "notebooks" / "01-first-job.ipynb"

pytestmark = KERNELS


def test_the_first_notebook_runs_and_is_correct_after_a_restart(home: Path) -> None:
    ran = run(nbformat.read(NOTEBOOK, as_version=4))

    card = text_of(cell_with(ran, "estimate_pi.submit(n=80)"))
    assert "succeeded" in card.lower() or "done" in card.lower()
    assert "application/vnd.jupyter.widget-view+json" not in str(cell_with(ran, "estimate_pi.submit(n=80)").outputs)
    assert re.search(r"'pi': 3\.1[34]", text_of(cell_with(ran, "job.result()")))
    assert text_of(cell_with(ran, "job.logs()")).count("rounds: 3.1") == 4
    assert "499999500000" in text_of(cell_with(ran, "await kit.submit"))
    assert "n must be a whole number from 1 to 10000, not 0" in text_of(cell_with(ran, "n=0"))
    assert "ZeroDivisionError" in text_of(cell_with(ran, "broken"))
    assert "(True, <JobState.CANCELLED: 'cancelled'>)" in text_of(cell_with(ran, "slow.cancel()"))
    assert "submitted" in text_of(cell_with(ran, "again"))
    assert len(nbformat.writes(ran)) < 200_000

    # A new kernel finds the job by its id, with its history and value.
    job_id = re.search(r"[0-9a-f]{16}", card).group()  # type: ignore[union-attr]
    later = notebook_of(
        (
            f"import jobkit\njob = jobkit.connect().get({job_id!r})\njob",
            "print(job.state, job.result()['pi'], len(job.logs()), job.attempts[0].outcome)",
        )
    )
    run(later)
    assert job_id[:8] in text_of(later.cells[0])
    assert re.match(r"succeeded 3\.1\d+ 4 succeeded", text_of(later.cells[1]))


def test_an_error_in_a_job_reaches_the_cell_as_jobfailed_without_frames_of_the_runner(home: Path) -> None:
    notebook = notebook_of(("import jobkit\ndef bad(x):\n    return {}[x]\njobkit.connect().submit(bad, 1).result()",))

    with pytest.raises(CellExecutionError, match=r"JobFailed.*KeyError: 1") as caught:
        run(notebook)

    assert "jobkit/run/" not in str(caught.value)
