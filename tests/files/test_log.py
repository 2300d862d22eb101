"""Pages and searches of a log: of the complete log in a file, of the kept part in the store."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from jobkit.client.kit import Kit
from jobkit.files import FileStore, log_reader
from jobkit.files import log as log_module
from jobkit.files.log import LogFile, join, mark_of, marks_of
from jobkit.files.log_reader import find_in_log, read_log
from jobkit.model import InvalidParams, LogFilter, LogSlice
from jobkit.settings import Settings
from tests.ui.stage import Stage


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log of 10,000 lines: each hundredth is a warning, each thousandth an error, line 77 was printed to stderr."""
    log = LogFile(tmp_path / "log", "j 1\n")
    for n in range(1, 10_001):
        level = "ERROR" if n % 1000 == 0 else "WARNING" if n % 100 == 0 else ""
        log.add([f"step {n} Größe"], mark_of("log" if level else "stderr" if n == 77 else "stdout", level, 1_000 + n))
        log.flush()
    log.write(log.take())
    return tmp_path / "log"


def numbers(found: LogSlice) -> list[int]:
    return [line.n for line in found.lines]


def test_a_log_that_the_disk_does_not_take_to_its_end_has_no_file(path: Path) -> None:
    """Readers then use what the store keeps, which counts the lines that it has not."""
    log, other = LogFile(path, "j 1\n"), LogFile(path, "j 1\n")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, before[1]))
    try:
        log.write((b"x" * 1_000 + b"\n", mark_of("stdout")))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    other.write((b"later\n", mark_of("stdout")))

    assert (log.problem, other.problem) == ("File too large", "an earlier part could not be written")
    assert sorted(each.name for each in path.parent.iterdir()) == ["log.none"]


def test_pages_go_both_ways(path: Path) -> None:
    everything = LogFilter()

    newest = read_log(path, everything, limit=3, newest=True)
    older = read_log(path, everything, before=newest.lines[0].n, limit=3, newest=True)
    first = read_log(path, everything, limit=2)
    newer = read_log(path, everything, after=2, limit=2)

    assert (numbers(newest), numbers(older)) == ([9_998, 9_999, 10_000], [9_995, 9_996, 9_997])
    assert (numbers(first), numbers(newer)) == ([1, 2], [3, 4])
    assert newest.total == 10_000
    assert (newest.lines[-1].text, newest.lines[-1].level) == ("step 10000 Größe", "ERROR")
    assert newest.lines[-1].at_ms == 11_000


def test_a_search_covers_the_whole_log(path: Path) -> None:
    by_text = read_log(path, LogFilter(search="STEP 77 GRÖSSE".replace("SS", "ß")), limit=500, newest=True)
    errors = read_log(path, LogFilter(level="error"), limit=4, newest=True)
    warnings = read_log(path, LogFilter(level="warning"), limit=3)
    both = read_log(path, LogFilter(search="step 7", level="warning"), limit=500)
    no_pattern = read_log(path, LogFilter(search="step .*"), limit=500)

    assert numbers(by_text) == [77]
    assert (numbers(errors), errors.matched) == ([7_000, 8_000, 9_000, 10_000], 10)
    assert (numbers(warnings), warnings.matched) == ([77, 100, 200], 101)
    assert both.matched == 12
    assert not no_pattern.lines


def test_a_search_of_a_large_log_stops_and_can_be_continued(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_reader, "_BLOCK", 10_000)
    monkeypatch.setattr(log_reader, "SEARCH_BYTES", 40_000)
    wanted, seen, rounds, before = LogFilter(search="step 7 "), [], 0, None

    while True:
        found = read_log(path, wanted, before=before, limit=5, newest=True)
        seen += numbers(found)
        rounds += 1
        if not found.cursor:
            break
        assert before is None or found.cursor < before
        before = found.cursor

    assert seen == [7]
    assert 3 < rounds < 10


def test_lines_keep_their_numbers_after_the_beginning_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "PIECE_BYTES", 1_000)
    path = tmp_path / "log"
    log = LogFile(path, "j 1\n")
    for n in range(1, 501):
        log.add([f"line {n}"], mark_of("stdout", "", n))
        log.write(log.take())

    running = read_log(path, LogFilter(), limit=5000)
    join(path)
    ended = read_log(path, LogFilter(), limit=5000)

    for found in (running, ended):
        assert found.total == 500
        assert 1 < found.lines[0].n < 400
        assert found.lines[-1].n == 500
        kept = [line for line in found.lines if line.text.startswith("line")]
        assert all(line.text == f"line {line.n}" and line.at_ms == line.n for line in kept)
        assert len(kept) >= len(found.lines) - 1


def test_a_file_without_marks_can_be_read(path: Path) -> None:
    path.with_name("log.marks").unlink()

    found = read_log(path, LogFilter(search="step 9999 "))

    assert [(line.n, line.level, line.source) for line in found.lines] == [(9_999, "", "stdout")]


def test_a_client_searches_the_file_if_it_can_otherwise_the_store(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(Kit(Settings(url="sync://", lease=3600.0, results=str(tmp_path / "results"))))
    try:
        job = stage.submit("train")
        stage.start(job)
        stage.log(job, "one", "two", "three")
        stage.log(job, "four", source="log", level="ERROR")

        in_store = stage.kit.log_slice(job, search="o", limit=2)
        assert [line.text for line in in_store.lines] == ["one", "two"]
        assert (in_store.matched, in_store.total) == (3, 4)
        assert [line.n for line in stage.kit.logs(job, before=3, limit=1)] == [2]
        assert [line.text for line in stage.kit.logs(job, level="error")] == ["four"]

        file_store = stage.kit.verbs.file_store
        assert file_store is not None
        folder = FileStore(file_store.place, "0" * 16).folder(job, 1).path
        target = file_store.log_path(folder)
        assert target is not None

        async def folder_of(job_id: str) -> str:  # the worker of a stage keeps no files
            return folder

        monkeypatch.setattr(stage.store, "folder", folder_of)
        target.parent.mkdir(parents=True)
        for name in ("log", "log.marks"):
            path.with_name(name).rename(target.with_name(name))

        in_file = stage.kit.log_slice(job, level="error", limit=1, tail=1)
        assert ([line.n for line in in_file.lines], in_file.matched, in_file.total) == ([10_000], 10, 10_000)
    finally:
        stage.close()


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"level": "loud"}, "level must be one of info, warning, error, not 'loud'"),
        ({"search": "x" * 201}, "search must be text with at most 200 characters"),
        ({"limit": 0}, "limit must be a whole number from 1 to 5000 or None, not 0"),
        ({"before": "x"}, "before must be a whole number"),
    ],
)
def test_invalid_searches_are_refused(wanted: dict[str, object], sentence: str) -> None:
    with Kit(Settings(url="sync://")) as kit, pytest.raises(InvalidParams, match=sentence):
        kit.log_slice("x", **wanted)


def test_hits_are_counted_over_the_whole_log_part_by_part(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_reader, "_BLOCK", 10_000)
    monkeypatch.setattr(log_reader, "SEARCH_BYTES", 40_000)

    def hits(wanted: LogFilter, most: int = 10_000) -> tuple[list[int], int]:
        numbers, matched, after = [], 0, 0
        while True:
            found = find_in_log(path, wanted, after=after, most=most - len(numbers))
            numbers += found.numbers
            matched += found.matched
            after = found.cursor
            if not after:
                return numbers, matched

    for wanted in (LogFilter("step 7"), LogFilter(level="error"), LogFilter("STEP 7", "warning"), LogFilter("nothing")):
        parts = [read_log(path, wanted, after=n, before=n + 1_001, limit=1_000) for n in range(0, 10_000, 1_000)]
        one_by_one = [line.n for part in parts for line in part.lines]
        assert hits(wanted) == (one_by_one, len(one_by_one))
    assert hits(LogFilter("step"), most=3) == ([1, 2, 3], 10_000)


def test_a_log_that_grows_or_is_replaced_is_read_as_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_reader, "_BLOCK", 1_000)
    path = tmp_path / "log"
    log = LogFile(path, "j 1\n")

    def last() -> tuple[int, str]:
        found = read_log(path, LogFilter(), limit=1, newest=True)
        return found.total, found.lines[0].text

    for count in (300, 7, 300):
        log.add([f"line {n}" for n in range(count)])
        log.write(log.take())
        assert last()[1] == f"line {count - 1}"
    assert last()[0] == 607
    path.write_text("other\n" * 2_000)  # the same inode
    marks_of(path).write_bytes(b"")

    assert last() == (2_000, "other")


def test_a_file_with_colours_and_returns_is_read_as_a_terminal_shows_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = LogFile(path, "j 1\n")
    log.add_bytes(b"\x1b[31mred\x1b[0m wine\n 1 %\r100 %\n\x1b]0;title\x07plain\n")
    log.write(log.take())

    lines = read_log(path, LogFilter()).lines

    assert [line.text for line in lines] == ["red wine", "100 %", "plain"]
    assert [line.styled for line in lines] == ["\x1b[31mred\x1b[0m wine", "", ""]
    assert find_in_log(path, LogFilter("red wine"), most=9).numbers == (1,)
    assert find_in_log(path, LogFilter("title"), most=9).numbers == ()


@pytest.mark.parametrize("search", ["xb", "b", "a ", "cde"])
def test_a_search_finds_what_the_page_shows_of_lines_with_control_characters(tmp_path: Path, search: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"xb\x1b[2K\r\na\tb\nabxde\rabc\n")
    wanted = LogFilter(search)

    shown = [line.n for line in read_log(path, LogFilter()).lines if wanted.takes(line)]

    assert [line.n for line in read_log(path, wanted).lines] == shown
    assert list(find_in_log(path, wanted, most=9).numbers) == shown
