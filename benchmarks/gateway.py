"""Files through the gateway of a shared home, beside plain copies of the same size, and the memory of the gateway."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psutil

from benchmarks.place import Place
from benchmarks.table import Row, most, row
from jobkit.embedded import shutdown
from jobkit.embedded.home import Home
from jobkit.embedded.server import ask
from jobkit.features.sharing import hosting
from jobkit.features.sharing.gateway import read_status
from jobkit.features.sharing.joining import join
from jobkit.features.sharing.rights import mark_key
from jobkit.files.places import place_of
from jobkit.files.storage import Directory
from jobkit.settings import Settings

_AT_ONCE = 4
_MARK = "0123456789abcdef"


def measure(place: Place) -> list[Row]:
    content = bytes(place.pick(100_000_000, 2_000_000))
    settings = Settings(home=place.folder / "shared").checked()
    hosting.share(settings, "127.0.0.1", None)
    try:
        ask(str(Home(settings.home).socket), "SET", mark_key("default"), _MARK)
        member = join(hosting.new_word(settings), place.folder / "joined")[0]
        return _rows(place, content, member.files_url, psutil.Process(read_status(Home(settings.home))["pid"]))
    finally:
        shutdown(settings)
        for name in ("shared", "joined"):
            shutil.rmtree(place.folder / name)


def _rows(place: Place, content: bytes, url: str, gateway: psutil.Process) -> list[Row]:
    files, copies = place_of(url, home=place.folder / "joined"), Directory(place.folder / "copies")
    files.write(_path(99), [content])
    idle = gateway.memory_info().rss
    written, fetched, copied = [], [], []
    for n in range(place.pick(5, 2)):
        alone = content[n:]  # the cache keeps contents once
        copied.append(_timed(partial(copies.write, "a", [alone])))
        written.append(_timed(partial(files.write, _path(n), [alone])))
        fetched.append(_timed(partial(files.fetched, _path(n))))
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        sending = [threads.submit(files.write, _path(n), [content]) for n in range(_AT_ONCE)]
        peak = idle
        while not all(each.done() for each in sending):
            peak = max(peak, gateway.memory_info().rss)
            time.sleep(0.005)
        for each in sending:
            each.result()
    megabytes = len(content) / 1e6
    return [
        row("a plain copy of 100 MB", "copy", [megabytes / each for each in copied], "MB/s"),
        row("100 MB to the gateway", "jobkit", [megabytes / each for each in written], "MB/s"),
        row("100 MB from the gateway, with a copy here", "jobkit", [megabytes / each for each in fetched], "MB/s"),
        most("time to the gateway, by that of a copy", [b / a for a, b in zip(copied, written, strict=True)], "x", 20),
        most(
            "time from the gateway, by that of a copy", [b / a for a, b in zip(copied, fetched, strict=True)], "x", 20
        ),
        row("memory of the gateway", "jobkit", [idle / 1e6], "MB"),
        most(f"and more while {_AT_ONCE} results of 100 MB pass", [(peak - idle) / 1e6], "MB", 50),
    ]


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _path(n: int) -> str:
    return f"{_MARK}/ab/{n:030x}/result.1"
