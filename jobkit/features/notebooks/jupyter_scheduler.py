"""JupyterLab's "Create Notebook Job" on the queue: an execution manager of jupyter-scheduler.

    # jupyter_server_config.py
    c.Scheduler.execution_manager_class = "jobkit.features.notebooks.jupyter_scheduler.JobkitExecutionManager"

The settings are those of the environment of JupyterLab (`JOBKIT_URL` and others). jupyter-scheduler starts a process
for each notebook job; here it submits a job, waits for its end and copies its artifacts.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jupyter_scheduler.executors import DefaultExecutionManager
from jupyter_scheduler.models import Status
from jupyter_scheduler.orm import Job as JobRecord

from jobkit.client.job import Job
from jobkit.connecting import connect
from jobkit.features.notebooks.notebook_task import Notebook
from jobkit.model import JobCancelled, JobFailed, JobkitError
from jobkit.tasks.registry import registry

#: JupyterLab's "Stop" kills the process that waits. This shell sees the end of its pipe and cancels the job.
_GUARD = 'read -r line || exec "$0" -m jobkit cancel "$1" --reason "stopped in JupyterLab"'


class JobkitExecutionManager(DefaultExecutionManager):  # type: ignore[misc]  # its base has no types
    """Runs notebook jobs of JupyterLab as jobs."""

    def execute(self) -> None:
        """Run the notebook to its end. Raises what becomes the message of the notebook job."""
        model, file = self.model, Path(self.staging_paths["input"])
        notebook = Notebook(file)
        info = registry.task_of(notebook).info()
        given: Mapping[str, str] = model.parameters or {}
        notebook.check_names(given)
        values = info.parse([f"{name}={_unquoted(text)}" for name, text in given.items()])
        with connect() as kit, _cancelled_with_this_process(model.job_id):
            options = kit.options(id=_id(model.job_id), title=model.name, tags=["jupyterlab", *(model.tags or ())])
            job = options.submit(notebook, **values)
            try:
                job.result()
            except JobFailed as error:
                raise JobkitError(str(job.error or error)) from None
            finally:
                self.add_side_effects_files(str(file.parent))
                self._copy_outputs(job, notebook.name)

    def _copy_outputs(self, job: Job[Any], name: str) -> None:
        """Write the outputs that JupyterLab offers; formats that no artifact has are made from the notebook."""
        artifacts = {each.name: each for each in job.artifacts()}
        formats = list(self.model.output_formats)
        for each in formats:
            if (found := artifacts.get(f"{name}.{each}")) is not None:
                Path(self.staging_paths[each]).write_bytes(found.read())
        others = [each for each in formats if f"{name}.{each}" not in artifacts]
        if others and (executed := artifacts.get(f"{name}.ipynb")) is not None:
            node = importlib.import_module("nbformat").reads(executed.read().decode(), as_version=4)
            self.create_output_files(self.model.copy(update={"output_formats": others}), node)

    def on_failure(self, e: Exception) -> None:
        """Store the message; a job that was cancelled elsewhere is a stopped one."""
        super().on_failure(e)
        if isinstance(e, JobCancelled):
            with self.db_session() as session:
                session.query(JobRecord).filter(JobRecord.job_id == self.job_id).update({"status": Status.STOPPED})
                session.commit()


def _id(job_id: str) -> str:
    return job_id.replace("-", "")


def _unquoted(text: str) -> str:
    """Return the text of a parameter: JupyterLab's own execution manager takes code, so texts may be in quotes."""
    with contextlib.suppress(ValueError, SyntaxError):
        if isinstance(value := ast.literal_eval(text), str):
            return value
    return text


@contextlib.contextmanager
def _cancelled_with_this_process(job_id: str) -> Iterator[None]:
    """Cancel the job if this process is killed meanwhile."""
    command = ["/bin/sh", "-c", _GUARD, sys.executable, _id(job_id)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True) as guard:
        try:
            yield
        finally:
            assert guard.stdin is not None
            guard.stdin.write(b"ended\n")
