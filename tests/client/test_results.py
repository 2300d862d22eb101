"""Large results and artifacts: the same in every place, gone with their job."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import jobkit
from jobkit.client.kit import Kit


def many_bytes(size: int) -> bytes:
    return bytes(range(256)) * (size // 256)


def saves_much(folder: str) -> str:
    from pathlib import Path

    import jobkit

    me = jobkit.current()
    me.save("notes.txt", "hällo")
    me.save("numbers", {"a": [1, 2]})
    file = Path(folder) / "data.csv"
    file.write_text("a,b\n1,2\n")
    me.save("data.csv", file)
    file.write_text("changed afterwards")
    me.save("notes.txt", "newer")
    return "kept"


class EndsItsReader:
    def __reduce__(self) -> tuple[object, ...]:
        return sys.exit, (3,)


def test_a_result_whose_unpickling_ends_the_process_does_not_end_its_reader(kit: Kit) -> None:
    job = kit.submit(EndsItsReader)

    with pytest.raises(jobkit.ResultUnavailable, match="cannot be rebuilt here: SystemExit: 3"):
        job.result(60)


def drawn() -> Any:
    from matplotlib import pyplot

    return pyplot.subplots()[0]


@pytest.mark.parametrize(("backend", "opened"), [("inline", 0), ("agg", 1)])
def test_a_notebook_shows_the_figure_of_a_result_once(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, backend: str, opened: int
) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    job = kit.submit(drawn)
    job.wait(60)
    own, ours = pyplot.figure(), set(pyplot.get_fignums())
    monkeypatch.setattr(pyplot, "get_backend", lambda: backend)  # the inline one shows what is open after a cell

    try:
        assert job.result(60).get_axes()
        assert len(set(pyplot.get_fignums()) - ours) == opened
        assert pyplot.fignum_exists(own.number)
    finally:
        pyplot.close("all")


def test_a_result_of_many_megabytes_comes_back(kit: Kit) -> None:
    job = kit.submit(many_bytes, 5_120_000)

    assert job.result(60) == bytes(range(256)) * 20_000
    assert kit.get(job.id).result(60)[:3] == b"\x00\x01\x02"


def test_artifacts_can_be_read_by_every_kit(kit: Kit, tmp_path: Path) -> None:
    job = kit.submit(saves_much, str(tmp_path))
    assert job.result(60) == "kept"

    found = {artifact.name: artifact for artifact in job.artifacts()}

    assert sorted(found) == ["data.csv", "notes.txt", "numbers"]
    assert [found[name].media_type for name in sorted(found)] == ["text/csv", "text/plain", "application/json"]
    assert found["notes.txt"].read() == b"newer"
    assert found["numbers"].read() == b'{"a": [1, 2]}'
    assert found["data.csv"].read() == b"a,b\n1,2\n"
    assert found["data.csv"].size_bytes == 8
    assert abs((datetime.now(UTC) - found["data.csv"].created_at).total_seconds()) < 60
    assert found["data.csv"].save(tmp_path / "copy") == tmp_path / "copy"
    assert (tmp_path / "copy").read_bytes() == b"a,b\n1,2\n"
    (tmp_path / "folder").mkdir()
    assert found["numbers"].save(tmp_path / "folder") == tmp_path / "folder" / "numbers"
    assert found["numbers"].save(f"{tmp_path}/new/folder/") == tmp_path / "new" / "folder" / "numbers"
    assert found["notes.txt"].save(f"{tmp_path}/new/folder/").read_bytes() == b"newer"
    assert kit.artifact(job.id, "notes.txt").read() == b"newer"


def test_a_missing_artifact_is_refused_with_the_existing_names(kit: Kit) -> None:
    def saves() -> None:
        import jobkit

        jobkit.current().save("one", 1)

    job = kit.submit(saves)
    job.result(60)

    with pytest.raises(jobkit.InvalidParams, match=r"no artifact 'two'; it has 'one'"):
        kit.artifact(job.id, "two")
    with pytest.raises(jobkit.JobNotFound):
        kit.artifacts("never")


def test_a_job_that_saves_an_unsupported_value_fails_with_the_sentence(kit: Kit) -> None:
    def saves() -> None:
        import jobkit

        jobkit.current().save("o", object())

    job = kit.submit(saves)

    with pytest.raises(jobkit.JobFailed, match=r"'o': a value of type object cannot be kept; allowed are bytes"):
        job.result(60)
