"""`jobkit export` and `import`: jobs as JSON lines, for another Redis."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

import click

import jobkit
from jobkit.cli import BadInput, out, selection_options
from jobkit.features.moving.belongings import in_words
from jobkit.features.moving.transfer import JobExport, JobImport
from jobkit.model import InvalidParams
from jobkit.store.query import Query

#: Jobs that are read together.
_SLICE = 20


@click.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@click.option("--no-files", is_flag=True, help="Leave out files of jobs and parts of calls above 1 MB.")
@selection_options
def export(file: Path | None, no_files: bool, **wanted: Any) -> None:
    """Export jobs, newest first, as JSON objects, one per line, to FILE or standard output.

    With all that they need: arguments, results, logs, artifacts, metrics, checkpoints, and what made them, sealed as
    they are; and with their batches and studies. Left out: schedules, limits, groups of failures and the audit trail;
    jobs that they need, and other jobs of a batch, are exported if they are selected, too.
    """
    kit = jobkit.connect()
    found = out.snapshots(kit, Query(**wanted, limit=100))
    job_export = JobExport(kit, has_files=not no_files)
    with _target(file) as target:
        while some := list(islice(found, _SLICE)):
            target.writelines(job_export.lines([snapshot.id for snapshot in some]))
        target.writelines(job_export.end())
    said = f"{job_export.count:,} jobs exported"
    if job_export.missing:
        why = "" if no_files else ": they are gone, or this machine does not reach them (JOBKIT_RESULTS)"
        said += f", without {in_words(job_export.missing)}{why}"
    out.echo(said, err=True)


@contextmanager
def _target(file: Path | None) -> Iterator[IO[bytes]]:
    """Yield the file to write to. It appears when complete, and only its owner may read it: arguments may be secret."""
    if file is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with tempfile.NamedTemporaryFile(dir=file.absolute().parent, prefix=f".{file.name}.", delete=False) as part:
            pass
        try:
            with open(part.name, "wb") as stream:
                yield stream
            Path(part.name).replace(file)
        except BaseException:
            Path(part.name).unlink()  # after it was closed, as Windows wants it
            raise
    except OSError as error:
        raise BadInput(f"{file} cannot be written: {error.strerror or error}") from None


@click.command("import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@click.option("--waiting", is_flag=True, help="Also submit jobs that had not ended.")
@click.option("--dry-run", is_flag=True, help="Check the file and print what would be done.")
def import_(file: Path | None, waiting: bool, dry_run: bool) -> None:
    """Import jobs that `jobkit export` wrote, from FILE or standard input.

    All lines are checked before the first job is stored. Jobs whose id exists here, and jobs that were running at the
    time of the export, are skipped. With --waiting a job that has checkpoints, also one that was running, becomes a
    cancelled one and a new job that goes on from them. Running jobs or reading their results needs the same
    JOBKIT_SECRET, and their files need JOBKIT_RESULTS here.
    """
    kit = jobkit.connect()
    with _opened(file) as source:
        job_import = JobImport(kit, source, waiting=waiting)
        try:
            job_import.check()
        except InvalidParams as error:
            raise BadInput(str(error)) from None
        ended, waited, ran = job_import.ended, job_import.waited, job_import.ran
        if dry_run:
            numbers = f"{ended:,} ended jobs, {waited:,} waiting, {ran:,} running"
            return out.echo("; ".join([numbers, "nothing was stored", *job_import.problems]), err=True)
        job_import.store()
    known = ended - job_import.stored + (waited - job_import.submitted if waiting else 0)
    said = [
        f"{job_import.stored:,} jobs imported" + (f", {job_import.submitted:,} submitted" if waiting else ""),
        f"{known:,} were known already" if known else "",
        f"{waited:,} that waited were left out (--waiting submits them)" if waited and not waiting else "",
        f"{ran:,} that ran were left out" if ran else "",
        *job_import.problems,
    ]
    out.echo("; ".join(filter(None, said)), err=True)


def _opened(file: Path | None) -> IO[bytes]:
    """Open the input, which is read twice: that of a pipe is copied to a temporary file first."""
    if file is not None:
        try:
            return file.open("rb")
        except OSError as error:
            raise BadInput(f"{file} cannot be read: {error.strerror or error}") from None
    aside = tempfile.TemporaryFile()  # noqa: SIM115  # the caller closes it
    shutil.copyfileobj(sys.stdin.buffer, aside)
    aside.seek(0)
    return aside
