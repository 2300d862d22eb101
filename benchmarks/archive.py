"""The archive: jobs appended a second from Redis, and queries over many jobs.

`python -m benchmarks.archive [JOBS]` (default 1,000,000; `python -m benchmarks`: 100,000) writes the files of
so many jobs, which are copies of one real record with other ids, times, arguments and owners, then measures queries.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from msgspec.structs import replace

from benchmarks.place import Place, private_redis
from benchmarks.table import Row, as_text, row
from jobkit.archive import Archive
from jobkit.archive.folder import files_of, path_of
from jobkit.archive.table import arrow, to_parquet
from jobkit.archive.writer import Archiver, merge
from jobkit.files.file_store import Directory
from jobkit.model import JobSpec
from jobkit.settings import Settings
from jobkit.store.export import Dump
from jobkit.store.grammar import parse
from jobkit.store.query import Query
from jobkit.store.redis import RedisStore
from jobkit.store.values import Ending, Submission, WorkerInfo

OWNERS = ("ada", "bob", "cy", "dee", "eve")

#: Jobs of one file, as a busy worker writes them, and jobs that are appended from Redis.
_PART, _APPENDED = 500, 5_000

QUERIES = ("", "owner:ada", "lr=0.0123", "owner:ada took:>1s n=77", "task:nothing")


async def append(settings: Settings, archive: Archive, count: int) -> tuple[float, Dump]:
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
        while (await store.outbox.state()).waiting:
            await archiver.append()
        took_s = time.perf_counter() - begin
        found, _ = archive.dumps(Query(limit=1), int(time.time() * 1000))
        return count / took_s, found[0]
    finally:
        await store.close()


def fill(archive: Archive, template: Dump, count: int) -> None:
    """Write so many jobs, as a worker does over years, merging files on the way."""
    us, place = int(template.record["us"]), "f" * 16
    for part, start in enumerate(range(0, count, _PART)):
        dumps = [_copy(template, n, us - (count - n) * 30_000_000) for n in range(start, min(count, start + _PART))]
        ms = us // 1000 - (count - start) * 30_000
        path = path_of(archive.namespace, place, f"{ms}-0", f"{ms + 1}-0")
        archive.storage.write(path, [to_parquet(dumps)])
        if part % 16 == 15:
            merge(archive, place)


def _copy(template: Dump, n: int, us: int) -> Dump:
    spec = template.snapshot.spec
    params = {"n": n % 1000, "lr": n % 10_007 / 1e4, "optimizer": ("adam", "sgd")[n % 2]}
    spec = replace(spec, id=f"c{n:015x}", owner=OWNERS[n % 5], params=params)
    ms, took = us // 1000, n * 7919 % 60_000
    times = {"submitted": str(ms), "started": str(ms + 50), "finished": str(ms + 50 + took)}
    record = {**template.record, **times, "us": str(us), "spec": _json(spec)}
    return replace(template, id=spec.id, record=record)


def _json(spec: JobSpec) -> str:
    return msgspec.json.encode(spec).decode()


def measure(place: Place, count: int = 0) -> list[Row]:
    count = count or place.pick(100_000, 1_000)
    settings = Settings(url=place.url, namespace="archive").checked()
    with tempfile.TemporaryDirectory(prefix="jk-bench-") as folder:
        appended = Archive(Directory(Path(folder, "appended")), settings.namespace)
        rate, template = asyncio.run(append(settings, appended, min(count, _APPENDED)))
        rows = [row("archive: append", "jobkit", [rate], "jobs/s")]
        archive = Archive(Directory(Path(folder, "filled")), settings.namespace)
        begin = time.perf_counter()
        fill(archive, template, count)
        rows.append(row("archive: write files", "jobkit", [count / (time.perf_counter() - begin)], "jobs/s"))
        files = files_of(archive.storage, archive.namespace)
        rows.append(
            row(
                f"archive: {len(files)} files of {count:,} jobs",
                "jobkit",
                [sum(f.size for f in files) / count],
                "B/job",
            )
        )
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
        return rows


def main() -> None:
    with private_redis() as (url, folder):
        place = Place(url, folder, False, {})
        print(as_text(measure(place, int((sys.argv[1:] or ["1000000"])[0].replace(",", "")))))


if __name__ == "__main__":
    main()
