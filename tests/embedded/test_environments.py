"""Two virtual environments, one home: each job runs in the environment of its submitter."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from jobkit.settings import Settings
from tests.support import ROOT, environment

SUBMIT = """
import json, sys
import jobkit

def where():
    import sys
    try:
        import only_here
    except ModuleNotFoundError:
        return sys.prefix, None
    return sys.prefix, only_here.NAME

async def where_async():
    return where()

with jobkit.connect() as kit:
    jobs = [kit.submit(where), kit.options(isolation="thread").submit(where), kit.submit(where_async)]
    results = [job.result(timeout=120) for job in jobs]
    print(json.dumps({"id": jobs[0].id, "results": results, "queue": jobs[0].queue}))
"""


def make_environment(folder: Path) -> Path:
    """Return the interpreter of a new environment with the packages of this one and the module `only_here`."""
    venv.create(folder, with_pip=False)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (site / "all.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
    (site / "only_here.py").write_text("NAME = 'the second'\n")
    return folder / "bin" / "python"


def said(settings: Settings, *command: str) -> str:
    """Return the output of a command in the home of `settings`."""
    done = subprocess.run(
        command,
        env=environment(JOBKIT_HOME=str(settings.home)),
        cwd=settings.home.parent,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_job_runs_in_the_environment_that_it_was_submitted_from(settings: Settings, tmp_path: Path) -> None:
    second = make_environment(tmp_path / "second")

    mine = json.loads(said(settings, sys.executable, "-c", SUBMIT))
    other = json.loads(said(settings, str(second), "-c", SUBMIT))

    assert mine["results"] == [[sys.prefix, None]] * 3
    assert other["results"] == [[str(tmp_path / "second"), "the second"]] * 3
    assert mine["queue"] == other["queue"] == "default"
    jobkit = (sys.executable, "-m", "jobkit")
    assert f"({tmp_path / 'second'})" in said(settings, *jobkit, "show", other["id"])
    assert f"({sys.prefix})" in said(settings, *jobkit, "show", mine["id"])

    shutil.rmtree(tmp_path / "second")
    again = said(settings, *jobkit, "retry", other["id"]).split()[-1]
    shown = subprocess.run(
        [*jobkit, "watch", again], env=environment(JOBKIT_HOME=str(settings.home)), capture_output=True, text=True
    )
    assert shown.returncode == 1
    failed = json.loads(said(settings, *jobkit, "show", again, "--json"))
    assert f"the Python environment {tmp_path / 'second'}" in failed["error"]["message"]
    assert "create it again, then retry the job" in failed["error"]["message"]
