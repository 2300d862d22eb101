"""Notebooks as jobs, with real workers and kernels."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import jobkit
from jobkit.client.job import Job
from tests.support import is_alive, wait_until
from tests.worker.conftest import Bench

from .files import write_notebook

REPORT = [
    "import jobkit, helpers\nfor i in jobkit.progress(range(3), 'rows'):\n    jobkit.log_metrics(i, loss=i)",
    "job = jobkit.current()\njob.save('extra.txt', helpers.TEXT)\nprint('for', region, len(table))\n"
    "job.log(f'as {job.job_id}')",
    "import pandas as pd\npd.DataFrame({'region': [region] * limit})",
]
SLEEPER = [
    "import os, pathlib, subprocess, time\nprogram = subprocess.Popen(['sleep', '600'])\n"
    "pathlib.Path(notes).write_text(f'start {os.getpid()} {program.pid}\\n')",
    "# A long step\ntry:\n    time.sleep(600)\nfinally:\n    print('cleaned up')",
]


def _file(job: Job[Any], name: str) -> bytes:
    [found] = [each for each in job.artifacts() if each.name == name]
    return found.read()


def _sleeping(bench: Bench) -> tuple[Job[Any], list[int]]:
    path = write_notebook(bench.folder / "sleeper.ipynb", *SLEEPER, parameters="notes = ''")
    job = bench.kit.notebook(path, notes=bench.file())
    return job, bench.started()


def _given_table() -> pd.DataFrame:
    return pd.DataFrame({"x": [1, 2]})


def test_a_notebook_runs_with_its_parameters_and_leaves_what_it_shows(bench: Bench) -> None:
    bench.worker()
    (bench.folder / "helpers.py").write_text("TEXT = 'beside the notebook'")
    path = write_notebook(
        bench.folder / "report.ipynb", *REPORT, parameters="region = 'EU'\nlimit = 2\ntable = None", title="Sales"
    )
    table = bench.kit.submit(_given_table)

    job = bench.kit.notebook(path, region="US", table=table)

    assert job.result(60).equals(pd.DataFrame({"region": ["US", "US"]}))
    assert (job.task, job.snapshot.spec.title, job.completed, job.total) == ("report", "Sales", 5, 5)
    assert job.params["region"] == "US"
    assert sorted(str(job.logs()).splitlines()) == [f"as {job.id}", "for US 2"]
    assert list(job.metrics()["loss"]) == [0, 1, 2]
    assert _file(job, "extra.txt") == b"beside the notebook"
    cells = json.loads(_file(job, "report.ipynb"))["cells"]
    assert "region = 'US'" in "".join(cells[2]["source"])
    assert cells[-1]["outputs"][0]["data"]["text/plain"]
    page = _file(job, "report.html").decode()
    assert "<h1" in page
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")


def test_a_cell_that_fails_ends_the_job_with_its_traceback_and_keeps_the_notebook(bench: Bench) -> None:
    bench.worker()
    source = "def look(key):\n    return {}[key]\n\nlook('region')"
    path = write_notebook(bench.folder / "bad.ipynb", "print('first')", source, "print('never')")

    job = bench.kit.notebook(path)

    with pytest.raises(jobkit.JobFailed) as failed:
        job.result(60)
    assert isinstance(failed.value.__cause__, KeyError)
    assert job.error is not None
    assert (job.error.type, job.error.where) == ("KeyError", "Cell In[2], line 2 in look")
    assert "look('region')" in job.error.traceback
    cells = json.loads(_file(job, "bad.ipynb"))["cells"]
    assert [len(cell["outputs"]) for cell in cells] == [1, 1, 0]


@pytest.mark.nightly
def test_a_cancel_ends_the_kernel_and_keeps_what_the_notebook_has_shown(bench: Bench) -> None:
    bench.worker()
    job, pids = _sleeping(bench)
    wait_until(lambda: job.message == "cell 4 of 4: A long step", what="the long cell")

    job.cancel()

    assert job.wait(60)
    assert job.state == "cancelled"
    wait_until(lambda: not any(map(is_alive, pids)), what="the kernel and its program to end")
    [text, error] = json.loads(_file(job, "sleeper.ipynb"))["cells"][-1]["outputs"]
    assert (text["text"], error["ename"]) == (["cleaned up\n"], "KeyboardInterrupt")


@pytest.mark.nightly
def test_a_killed_worker_leaves_no_kernel(bench: Bench) -> None:
    worker = bench.worker()
    job, pids = _sleeping(bench)

    os.kill(worker.pid, signal.SIGKILL)

    wait_until(lambda: not is_alive(pids[0]), what="the kernel to end")
    bench.worker()  # ends what is left of the other one
    wait_until(lambda: not is_alive(pids[1]), what="its program to end")
    job.cancel()
    assert job.wait(60)


@pytest.mark.nightly
def test_a_kernel_that_dies_fails_the_job_with_a_sentence(bench: Bench) -> None:
    bench.worker()
    path = write_notebook(bench.folder / "dies.ipynb", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")

    job = bench.kit.notebook(path)

    assert job.wait(60)
    assert job.error is not None
    assert job.error.kind == "crash"
    assert job.error.message == "the kernel died in cell 1 of 1: import os, signal (SIGKILL)"
    assert Path(job.artifacts()[0].name).suffix == ".ipynb"


@pytest.mark.nightly
def test_a_last_cell_that_may_fail_and_prints_too_much_ends_well(bench: Bench) -> None:
    results = str(bench.folder / "results")
    bench.worker(JOBKIT_RESULTS=results)
    path = write_notebook(bench.folder / "much.ipynb", "for _ in range(3000):\n    print(999 * 'x')\n1 / 0")
    path.write_text(
        path.read_text().replace('"metadata": {}, "source"', '"metadata": {"tags": ["raises-exception"]}, "source"')
    )

    job = bench.kit.notebook(path)

    assert job.result(60) is None
    with jobkit.connect(**bench.place, results=results) as kit:
        outputs = json.loads(_file(kit.get(job.id), "much.ipynb"))["cells"][0]["outputs"]
    text = "".join("".join(each.get("text", "")) for each in outputs)
    assert 1_000_000 < len(text) < 1_000_100
    assert text.endswith("the rest is in the log of the job …\n")
    assert outputs[-1]["ename"] == "ZeroDivisionError"


@pytest.mark.nightly
def test_large_artifacts_of_a_cell_leave_no_copies_in_the_folder_of_the_kernel(bench: Bench) -> None:
    bench.worker(JOBKIT_RESULTS=str(bench.folder / "results"))
    save = "import jobkit\nfor i in range(3):\n    jobkit.current().save('large.bin', bytes(2_000_000 + i))"
    left = (
        "import pathlib, time, ipykernel\ntime.sleep(1)\n"
        "[p.name for p in pathlib.Path(ipykernel.get_connection_file()).parent.iterdir() if p.stat().st_size > 1e6]"
    )

    job = bench.kit.notebook(write_notebook(bench.folder / "large.ipynb", save, left))

    assert job.result(60) == []
    assert "large.bin" in {each.name for each in job.artifacts()}
