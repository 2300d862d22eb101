"""`jobkit export` and `jobkit import`: jobs as JSON lines, for an archive or another Redis."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

import click

import jobkit
from jobkit.cli import BadInput, out, selection_options
from jobkit.client import Kit
from jobkit.model import InvalidParams, JobState
from jobkit.store.export import Dump
from jobkit.store.query import Query
from jobkit.store.values import Submission

#: Jobs that are read or stored together.
_SLICE = 100

#: Bytes after which fewer jobs are stored together.
_SLICE_BYTES = 8_000_000


@click.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@selection_options
def export(file: Path | None, **wanted: Any) -> None:
    """Export jobs, newest first, one JSON object per line, to FILE or standard output.

    With arguments, results, logs and small artifacts, sealed as they are. Files of large results stay in place
    (JOBKIT_RESULTS); a line has the reference.
    """
    kit = jobkit.connect()
    count = 0
    found = out.snapshots(kit, Query(**wanted, limit=_SLICE))
    with _target(file) as target:
        while some := list(islice(found, _SLICE)):
            for dump in kit.dump([snapshot.id for snapshot in some]):
                if dump is not None:  # it may be deleted by now
                    target.write(dump.to_line() + b"\n")
                    count += 1
    out.echo(f"{count:,} jobs exported", err=True)


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
@click.option("--waiting", is_flag=True, help="Also submit jobs that were waiting, under their old ids.")
@click.option("--dry-run", is_flag=True, help="Check the file and print what would be done.")
def import_(file: Path | None, waiting: bool, dry_run: bool) -> None:
    """Import jobs that `jobkit export` wrote, from FILE or standard input.

    All lines are checked before the first job is stored. Jobs whose id exists here, and jobs that were running at the
    time of the export, are skipped. Running them or reading their results needs the same JOBKIT_SECRET.
    """
    kit = jobkit.connect()
    with _opened(file) as source:
        states = [dump.snapshot.state for dump in _lines(source)]
        ended, ran = sum(state.is_terminal for state in states), states.count(JobState.RUNNING)
        waited = len(states) - ended - ran
        source.seek(0)
        if dry_run:
            numbers = f"{ended:,} ended jobs, {waited:,} waiting, {ran:,} running"
            return out.echo(f"{numbers}; nothing was stored", err=True)
        stored = submitted = 0
        for dumps in _slices(_lines(source)):
            stored += sum(kit.restore([dump for dump in dumps if dump.snapshot.is_terminal]))
            if waiting:
                submitted += _submit(kit, dumps)
    known = ended - stored + (waited - submitted if waiting else 0)
    said = [
        f"{stored:,} jobs imported" + (f", {submitted:,} submitted" if waiting else ""),
        f"{known:,} were known already" if known else "",
        f"{waited:,} that waited were left out (--waiting submits them)" if waited and not waiting else "",
        f"{ran:,} that ran were left out" if ran else "",
    ]
    out.echo("; ".join(filter(None, said)), err=True)


def _submit(kit: Kit, dumps: Iterable[Dump]) -> int:
    """Submit the jobs that were waiting. Returns how many are new."""
    waiting = [
        Submission(dump.snapshot.spec, dump.args)
        for dump in dumps
        if not dump.snapshot.is_terminal and dump.snapshot.state is not JobState.RUNNING
    ]
    return sum(reply.created_ms > 0 for reply in kit.submit_sealed(waiting)) if waiting else 0


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


def _lines(source: IO[bytes]) -> Iterator[Dump]:
    for n, line in enumerate(source, 1):
        if line.strip():
            try:
                yield Dump.from_line(line)
            except InvalidParams as error:
                raise BadInput(f"line {n}: {error}; nothing was stored") from None


def _slices(dumps: Iterable[Dump]) -> Iterator[list[Dump]]:
    found: list[Dump] = []
    size = 0
    for dump in dumps:
        found.append(dump)
        size += len(dump.args) + len(dump.result) + sum(map(len, dump.bodies.values()))
        if len(found) >= _SLICE or size > _SLICE_BYTES:
            yield found
            found, size = [], 0
    if found:
        yield found
