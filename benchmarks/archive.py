"""The archive: jobs appended a second from Redis, and queries over many jobs.

`python -m benchmarks.archive [JOBS] [FOLDER]` (default 1,000,000; `python -m benchmarks`: 100,000) writes the files of
so many jobs, which are copies of one real record with other ids, times, arguments and owners, then measures queries.
With a folder the files stay there, and a later call goes on: one call writes for 100 seconds at most,
and measures if all are there.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from benchmarks.place import Place, private_redis
from benchmarks.table import Row, as_text, row
from jobkit.features.archive.folder import files_of, path_of
from jobkit.features.archive.search import ArchiveReader
from jobkit.features.archive.store import ArchiveStore
from jobkit.features.archive.table import arrow, file_of, schema, to_parquet
from jobkit.features.archive.writer import Archiver, merge
from jobkit.features.moving.dump import Dump
from jobkit.files.storage import Directory
from jobkit.model import JobSpec
from jobkit.settings import Settings
from jobkit.store.grammar import parse
from jobkit.store.query import Query
from jobkit.store.redis import RedisStore
from jobkit.store.values import Ending, Submission, WorkerInfo

OWNERS = ("ada", "bob", "cy", "dee", "eve")

#: Jobs of one file, as a busy worker writes them, and jobs that are appended from Redis.
_PART, _APPENDED = 500, 5_000

#: Jobs of a year, one in 30 s.
_YEARS_JOBS = 1_051_200

_MARKS = {"id": "c" + "e" * 15, "owner": "zzowner", "n": "987654321", "lr": "0.123456789", "us": "1234567890123456"}

#: Seconds in which one call writes files.
_FILLING_S = 100.0

QUERIES = ("", "task:train age:<1y", "owner:ada", "lr=0.0123", "owner:ada took:>1s n=77", "task:nothing")


async def append(settings: Settings, archive: ArchiveReader, count: int) -> tuple[float, Dump]:
    """Return jobs that are appended a second, from their end in Redis to the file on the disk, and one of them."""
    store = RedisStore(settings)
    archiver = Archiver(store, archive)
    archiver.every_s = 0.0
    arrow()  # loading it takes a second
    try:
        await archiver.begin()
        worker = WorkerInfo(id="w.1.abcdef")
        for start in range(0, count, 500):
            specs = [
                JobSpec(id=f"b{n:015x}", task="train", owner="ada", params={"n": n, "lr": n / 1e4, "optimizer": "adam"})
                for n in range(start, min(count, start + 500))
            ]
            await store.submit([Submission(spec, b"sealed arguments " * 12) for spec in specs])
            claimed, _ = await store.claim(worker, len(specs))
            await store.finish(
                [
                    Ending(one.spec.id, one.token, "succeeded", result=b"sealed result " * 8, summary="0.25")
                    for one in claimed
                ]
            )
        begin = time.perf_counter()
        while (await store.part(ArchiveStore).state()).waiting:
            await archiver.append()
        took_s = time.perf_counter() - begin
        found, _ = archive.dumps(Query(limit=1), int(time.time() * 1000))
        return count / took_s, found[0]
    finally:
        await store.close()


def fill(archive: ArchiveReader, template: Dump, count: int, written: int = 0) -> tuple[int, float]:
    """Write jobs until there are so many, as a worker does over years, merging files on the way.

    Returns:
        how many there are, and the seconds that merging took.
    """
    now_us, place = int(template.record["us"]), "f" * 16
    until, merging_s = time.monotonic() + _FILLING_S, 0.0
    row = _marked(template)
    for part, start in enumerate(range(written, count, _PART)):
        if time.monotonic() > until:
            break
        written = min(count, start + _PART)
        rows = [_copy(row, n, now_us - (_YEARS_JOBS - n) * 30_000_000) for n in range(start, written)]
        ms = now_us // 1000 - (_YEARS_JOBS - start) * 30_000
        path = path_of(archive.namespace, place, f"{ms}-0", f"{ms + 1}-0")
        archive.storage.write(path, [file_of([arrow().Table.from_pylist(rows, schema=schema())])])
        if part % 16 == 15:
            begin = time.perf_counter()
            merge(archive, place)
            merging_s += time.perf_counter() - begin
    return written, merging_s


def _marked(template: Dump) -> dict[str, Any]:
    """Return the row of a job whose values are marks, which `_copy` replaces in all its columns."""
    params = {"n": int(_MARKS["n"]), "lr": float(_MARKS["lr"]), "optimizer": "adam"}
    spec = replace(template.snapshot.spec, id=_MARKS["id"], owner=_MARKS["owner"], params=params)
    ms = _MARKS["us"][:-3]
    record = {
        **template.record,
        "us": _MARKS["us"],
        "submitted": ms,
        "started": ms,
        "finished": ms,
        "spec": _json(spec),
    }
    marked = replace(template, id=spec.id, record=record)
    found: dict[str, Any] = arrow().parquet.read_table(BytesIO(to_parquet([marked]))).to_pylist()[0]
    return found


def _copy(row: dict[str, Any], n: int, us: int) -> dict[str, Any]:
    values = {
        "n": str(n % 1000),
        "lr": str(n % 10_007 / 1e4),
        "id": f"c{n:015x}",
        "owner": OWNERS[n % 5],
        "us": str(us),
    }
    made = dict(row)
    for name in ("id", "owner", "params", "text", "line"):
        value = row[name].decode() if name == "line" else row[name]
        for mark, text in values.items():
            value = value.replace(_MARKS[mark], text)
        made[name] = value.encode() if name == "line" else value
    ms, took_ms = us // 1000, n * 7919 % 60_000
    times = {"submitted": ms, "started": ms + 50, "finished": ms + 50 + took_ms}
    return made | {"us": us, "took_ms": took_ms} | times


def _json(spec: JobSpec) -> str:
    return msgspec.json.encode(spec).decode()


def measure(place: Place, count: int = 0, kept: Path | None = None) -> list[Row]:
    count = count or place.pick(100_000, 1_000)
    settings = Settings(url=place.url, namespace="archive").checked()
    with tempfile.TemporaryDirectory(prefix="jk-bench-") as folder:
        appended = ArchiveReader(Directory(Path(folder, "appended")), settings.namespace)
        rate, template = asyncio.run(append(settings, appended, min(count, _APPENDED)))
        rows = [row("archive: append", "jobkit", [rate], "jobs/s")]
        root = kept or Path(folder, "filled")
        archive = ArchiveReader(Directory(root), settings.namespace)
        before = archive.find(Query(limit=1), int(time.time() * 1000)).total
        begin = time.perf_counter()
        total, merging_s = fill(archive, template, count, before)
        if total > before:
            took_s = time.perf_counter() - begin
            rows.append(row("archive: write files", "jobkit", [(total - before) / took_s], "jobs/s"))
            rows.append(row("archive: part of this for merging", "jobkit", [merging_s / took_s * 100], "%"))
        if total < count:
            return rows
        files = files_of(archive.storage, archive.namespace)
        size = sum(file.size for file in files) / total
        rows.append(row(f"archive: {len(files)} files of {total:,} jobs", "jobkit", [size], "B/job"))
        for text in QUERIES:
            times = []
            for _ in range(3):
                begin = time.perf_counter()
                archive.page(parse(text, Query(limit=50)), int(time.time() * 1000))
                times.append((time.perf_counter() - begin) * 1000)
            rows.append(row(f"archive: page of {text or 'all'}", "jobkit", times, "ms"))
        begin = time.perf_counter()
        table, _ = archive.rows(parse("owner:ada", Query(limit=10**9)), int(time.time() * 1000))
        rows.append(
            row(f"archive: table of {len(table):,} jobs", "jobkit", [(time.perf_counter() - begin) * 1000], "ms")
        )
        for text, limit, what in (("task:train age:<1y", 50, "a page"), ("owner:ada", 10**9, "the table")):
            with ProcessPoolExecutor(1, get_context("spawn")) as alone:
                grown = alone.submit(_grown_by, root, text, limit).result()
            rows.append(row(f"archive: memory for {what} of {text}", "jobkit", [grown], "MB"))
        return rows


def _grown_by(root: Path, text: str, limit: int) -> float:
    """Return by how many MB a query makes a new process grow, at its peak."""
    arrow()
    archive = ArchiveReader(Directory(root), "archive")
    before = _peak_mb()
    archive.rows(parse(text, Query(limit=limit)), int(time.time() * 1000))
    return _peak_mb() - before


def _peak_mb() -> float:
    """Return the largest memory of this process so far."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1.024e-3


def main() -> None:
    given = sys.argv[1:]
    count = int(given[0].replace(",", "")) if given else 1_000_000
    with private_redis() as (url, folder):
        place = Place(url, folder, False, {})
        print(as_text(measure(place, count, Path(given[1]) if len(given) > 1 else None)))


if __name__ == "__main__":
    main()
