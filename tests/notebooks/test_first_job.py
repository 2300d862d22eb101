"""The tutorial notebook of the first job, run as a user runs it, with a new embedded server."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from jobkit.embedded import shutdown
from jobkit.settings import Settings
from tests.support import ROOT

NOTEBOOK = ROOT / "notebooks" / "01-first-job.ipynb"

pytestmark = [
    pytest.mark.timeout(240),
    # zmq and Jupyter leave sockets to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="jk-", dir="/tmp"))
    monkeypatch.setenv("JOBKIT_HOME", str(home))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("IPYTHONDIR", str(home / "ipython"))
    yield home
    shutdown(Settings(home=home), now=True)
    shutil.rmtree(home, ignore_errors=True)


def run(notebook: Any) -> Any:
    return NotebookClient(
        notebook, timeout=180, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}
    ).execute()


def text_of(cell: Any) -> str:
    """Return the visible output of a cell in the saved notebook."""
    return "\n".join(
        output.get("text", "") or "\n".join(map(str, output.get("data", {}).values())) for output in cell.outputs
    )


def cell_with(notebook: Any, source: str) -> Any:
    return next(cell for cell in notebook.cells if cell.cell_type == "code" and source in cell.source)


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
    later = nbformat.v4.new_notebook()
    later.cells = [
        nbformat.v4.new_code_cell(f"import jobkit\njob = jobkit.connect().get({job_id!r})\njob"),
        nbformat.v4.new_code_cell("print(job.state, job.result()['pi'], len(job.logs()), job.attempts[0].outcome)"),
    ]
    run(later)
    assert job_id[:8] in text_of(later.cells[0])
    assert re.match(r"succeeded 3\.1\d+ 4 succeeded", text_of(later.cells[1]))


def test_an_error_in_a_job_reaches_the_cell_as_jobfailed_without_frames_of_the_runner(home: Path) -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_code_cell(
            "import jobkit\ndef bad(x):\n    return {}[x]\njobkit.connect().submit(bad, 1).result()"
        )
    ]

    with pytest.raises(CellExecutionError, match=r"JobFailed.*KeyError: 1") as caught:
        run(notebook)

    assert "jobkit/run/" not in str(caught.value)
