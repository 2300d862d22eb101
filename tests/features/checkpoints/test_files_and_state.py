"""Checkpoints of one job: what is written, what is read back, and what is said of the rest."""

from __future__ import annotations

import errno
import io
import math
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jobkit
from jobkit.codec import Codec
from jobkit.features.checkpoints.checkpoint_info import CheckpointInfo, label_of
from jobkit.features.checkpoints.files import (
    CheckpointFiles,
    CheckpointHead,
    CheckpointPlace,
    Damaged,
    own_key,
    relative_files,
)
from jobkit.files import FileStore
from jobkit.files.places import place_of
from jobkit.files.storage import PATIENCE_S, Directory
from jobkit.joined import Membership
from jobkit.model import InvalidParams, JobkitError, JobSnapshot, JobSpec, JobState
from jobkit.model.format import progress_line
from jobkit.run import news
from jobkit.run.inside import context
from jobkit.run.inside.answers import Reply
from jobkit.run.inside.context import Context, Stop
from jobkit.run.inside.recorder import Bar, Recorder
from tests.run.conftest import Heard

CODEC = Codec([b"of these tests"])


class Listener(Heard):
    """Sink that also hears of checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[tuple[CheckpointInfo, bytes]] = []
        self.went_on: list[str] = []
        self.synced: list[tuple[list[str], int, int]] = []  # lines, points and checkpoints before each

    def emit(self, kind: str, news: Any) -> None:
        if kind == "checkpoint":
            self.written.append(news)
        elif kind == "metrics":
            super().emit(kind, news)
        else:
            self.went_on.append({"can_go_on": "", "resumed": getattr(news, "phrase", "")}[kind])

    def sync(self, key: str, reply: Callable[[Reply], None]) -> bool:
        self.synced.append((self.texts[:], len(self.curves.get("loss", ())), len(self.written)))
        reply(Reply(key, "stored"))
        return True


class Bench:
    """A job whose attempts run in this process one after the other, in the folder of the test."""

    def __init__(self, folder: Path, results: str) -> None:
        self.folder, self.results = folder, results
        self.heard = Listener()
        self.attempts = 0
        self.known: list[tuple[CheckpointInfo, bytes]] = []

    def place(self, job_id: str = "j1", codec: Codec = CODEC, **more: Any) -> CheckpointPlace:
        if not self.results:
            return CheckpointPlace.of(codec, job_id, "train", 7, None, **({"known": tuple(self.known)} | more))
        folder = FileStore(place_of(self.results), "0" * 16).folder(job_id, 7)
        return CheckpointPlace.of(codec, job_id, "train", 7, folder, self.results, **more)

    def attempt(self, *places: CheckpointPlace) -> Context:
        """Begin another attempt; what the verbs do from now on is its."""
        self.attempts += 1
        self.known = self.heard.written[-2:]
        self.recorder = Recorder(self.heard, lambda: None)
        self.job = Context("j1", self.attempts, "train", self.recorder, {"checkpoints": places or (self.place(),)})
        context.CURRENT.set(self.job)
        return self.job

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.joinpath("results").rglob("checkpoint.*"))


@pytest.fixture(params=["directory", "url", "store"])
def bench(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    results = {"directory": str(tmp_path / "results"), "url": f"file://{tmp_path}/results", "store": ""}[request.param]
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("JOBKIT_JOB_ID", raising=False)
    token = context.CURRENT.set(None)
    yield Bench(tmp_path, results)
    context.CURRENT.reset(token)


in_files = pytest.mark.parametrize("bench", ["directory"], indirect=True)


def test_the_next_attempt_has_the_newest_value_and_its_files(bench: Bench) -> None:
    bench.attempt()
    assert jobkit.resume({"step": 0}) == {"step": 0}
    for step in range(4):
        Path("model.pt").write_text(f"weights {step}")
        Path("more").mkdir(exist_ok=True)
        Path("more/notes").write_text(f"notes {step}")
        assert jobkit.checkpoint({"step": step, "set": {1, 2}}, files=["model.pt", Path("more")])
    Path("model.pt").unlink()
    Path("more/notes").write_text("of a later step")

    bench.attempt()

    assert jobkit.resume({"step": 0}) == {"step": 3, "set": {1, 2}}
    assert Path("model.pt").read_text() == "weights 3"
    assert Path("more/notes").read_text() == "notes 3"
    assert bench.heard.went_on == ["", "resumed at step 3"]
    assert bench.heard.texts == ["resumed at step 3 (written by attempt 1)"]
    assert sorted(Path.cwd().rglob("*.part")) == []
    assert jobkit.checkpoint({"step": 9})
    assert jobkit.resume({}) == {"step": 9}


def test_what_was_said_is_stored_before_a_checkpoint_and_nothing_is_waited_for_otherwise(bench: Bench) -> None:
    bench.attempt()
    assert bench.heard.synced == []

    for step in range(2):
        bench.recorder.write("stdout", f"line {step}\n")
        jobkit.log_metrics(step, loss=0.5)
        jobkit.checkpoint(step)
        jobkit.checkpoint(step)

    assert bench.heard.synced == [(["line 0"], 1, 0), (["line 0", "line 1"], 2, 2)]


@in_files
def test_the_newest_two_are_kept_in_files_that_only_their_owner_can_read(bench: Bench) -> None:
    bench.attempt()
    for step in range(5):
        jobkit.checkpoint(step)

    assert [path.name[-2:] for path in bench.files()] == ["04", "05"]
    assert {path.stat().st_mode & 0o777 for path in bench.files()} == {0o600}


@in_files
def test_a_lost_attempt_that_still_runs_does_not_hide_what_the_next_one_has_written(bench: Bench) -> None:
    lost = bench.attempt()
    for step in range(5):
        jobkit.checkpoint(step)
    bench.attempt()
    jobkit.checkpoint("of the second attempt")
    context.CURRENT.set(lost)

    jobkit.checkpoint("of the first one, too late")

    bench.attempt()
    assert jobkit.resume(None) == "of the second attempt"


@in_files
@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "other"])
def test_a_damaged_checkpoint_is_left_out_and_the_one_before_it_is_used(bench: Bench, damage: str) -> None:
    bench.attempt()
    Path("model.pt").write_text("old")
    jobkit.checkpoint({"step": 1}, "model.pt")
    Path("model.pt").write_text("new")
    jobkit.checkpoint({"step": 2}, "model.pt")
    older, newest = bench.files()
    content = bytearray(newest.read_bytes())
    content[3] ^= 1
    newest.write_bytes({"cut": content[:-9], "changed": content, "empty": b"", "other": older.read_bytes()}[damage])

    bench.attempt()

    assert jobkit.resume(None) == {"step": 1}
    assert Path("model.pt").read_text() == "old"
    assert "the newest checkpoint cannot be read" in bench.heard.texts[0]
    assert "the one before it is used" in bench.heard.texts[0]


@in_files
def test_a_job_without_a_readable_checkpoint_begins_anew_and_says_so(bench: Bench) -> None:
    bench.attempt()
    jobkit.checkpoint(1)
    bench.files()[0].write_bytes(b"")
    bench.attempt()

    assert jobkit.resume("anew") == "anew"
    assert "there is no older one" in bench.heard.texts[0]


@pytest.mark.parametrize("job_id", ["j1", "j2"])
def test_nothing_is_unpickled_that_was_sealed_with_another_key_or_for_another_job(bench: Bench, job_id: str) -> None:
    bench.attempt(bench.place(job_id, Codec([b"of another"])) if job_id == "j1" else bench.place(job_id))
    jobkit.checkpoint(Pill())
    foreign = bench.heard.written[-1:]
    if bench.results:
        (written,) = bench.files()
        mine = Directory(bench.folder / "results").root / bench.place().folder / written.name
        mine.parent.mkdir(parents=True, exist_ok=True)
        os.replace(written, mine)

    bench.attempt(bench.place(known=tuple(foreign)) if not bench.results else bench.place())

    assert jobkit.resume("anew") == "anew"
    assert not Pill.swallowed
    assert "does not carry a valid signature" in bench.heard.texts[0]


class Pill:
    """A value that tells when it is unpickled."""

    swallowed = False

    def __setstate__(self, state: object) -> None:
        Pill.swallowed = True

    def __getstate__(self) -> object:
        return 1


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt", "a/../../out.txt", ""])
@in_files
def test_files_of_a_checkpoint_stay_below_the_working_directory(bench: Bench, name: str) -> None:
    """Even if the job's own process has sealed other names."""
    files = CheckpointFiles(bench.place())
    (bench.folder / "source").write_text("x")
    head = CheckpointHead(CheckpointInfo("checkpoint.000001.00000001", attempt=1), *files.codec.encode(1)[:1], ())
    files.write(head, files.codec.encode(1)[1], {name: bench.folder / "source"})
    bench.attempts = 1
    bench.attempt()

    assert jobkit.resume("anew") == "anew"
    assert not (bench.folder / "out.txt").exists()
    assert "outside of the working directory" in bench.heard.texts[0]


@in_files
def test_files_do_not_follow_links_out_of_the_working_directory(bench: Bench) -> None:
    (bench.folder / "outside").mkdir()
    bench.attempt()
    Path("sub").mkdir()
    Path("sub/model.pt").write_text("weights")
    jobkit.checkpoint(1, "sub")
    Path("sub/model.pt").unlink()
    Path("sub").rmdir()
    Path("sub").symlink_to(bench.folder / "outside")
    Path("victim").write_text("before")

    bench.attempt()

    assert jobkit.resume("anew") == "anew"
    assert list((bench.folder / "outside").iterdir()) == []
    (bench.folder / "outside/f").write_text("x")
    with pytest.raises(InvalidParams, match="not below the working directory"):
        jobkit.checkpoint(1, "sub/f")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"every": -1}, "every must be seconds"),
        ({"every": "soon"}, "every must be seconds"),
        ({"files": [3]}, "files must be names of files, not 3"),
        ({"files": "/etc/passwd"}, "'/etc/passwd' is not below the working directory"),
        ({"files": ["../x"]}, "'../x' is not below the working directory"),
    ],
)
def test_a_wrong_argument_is_refused(bench: Bench, arguments: dict[str, Any], said: str) -> None:
    bench.attempt()
    (bench.folder / "x").write_text("x")
    with pytest.raises(InvalidParams, match=said):
        jobkit.checkpoint(1, **arguments)


@pytest.mark.parametrize(
    ("value", "files", "said"),
    [
        (threading.Lock(), (), "cannot be pickled"),
        (1, "missing.pt", "No such file or directory: .*missing.pt"),
    ],
)
def test_a_job_goes_on_without_a_checkpoint_that_cannot_be_written_and_says_so_once(
    bench: Bench, value: object, files: object, said: str
) -> None:
    bench.attempt()
    jobkit.checkpoint({"step": 1})

    assert [jobkit.checkpoint(value, files) for _ in range(3)] == [False] * 3  # type: ignore[arg-type]

    (line,) = bench.heard.texts
    assert "the one before it stays" in line
    assert re.search(said, line)
    bench.attempt()
    assert jobkit.resume(None) == {"step": 1}


@in_files
def test_a_full_disk_costs_the_new_checkpoint_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.attempt()
    jobkit.checkpoint(1)

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert not jobkit.checkpoint(2)
    assert "No space left on device" in bench.heard.texts[0]
    assert len(list(bench.folder.joinpath("results").rglob("*checkpoint*"))) == 1
    assert jobkit.checkpoint(3)
    bench.attempt()
    assert jobkit.resume(None) == 3


@pytest.mark.parametrize("bench", ["store"], indirect=True)
def test_a_checkpoint_too_large_for_the_store_is_not_kept(bench: Bench) -> None:
    bench.attempt(bench.place(most=1000))

    assert not jobkit.checkpoint(b"x" * 1001)
    assert "JOBKIT_RESULTS" in bench.heard.texts[0]
    assert jobkit.checkpoint(b"x")


def test_checkpoints_are_as_rare_as_every_says_and_the_last_one_is_written(bench: Bench) -> None:
    job = bench.attempt()

    assert [jobkit.checkpoint(n, every="1h") for n in range(3)] == [True, False, False]
    assert jobkit.checkpoint(3, every=0)
    job.ask()
    with pytest.raises(Stop):
        jobkit.checkpoint(4, every="1h")
    assert jobkit.checkpoint(5), "once: a clean-up may write, too"
    assert job.has_yielded


@in_files
@pytest.mark.parametrize("is_shared", [False, True])
def test_only_a_job_with_its_own_process_waits_without_a_limit_for_its_checkpoint(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, is_shared: bool
) -> None:
    waits: list[float] = []
    names = Directory.names

    def seen(place: Directory, folder: str) -> list[str]:
        waits.append(-1.0)
        return names(place, folder)

    monkeypatch.setattr(Directory, "wait", lambda place, patience_s: waits.append(patience_s))
    monkeypatch.setattr(Directory, "names", seen)
    monkeypatch.setattr(context, "is_worker", is_shared)
    bench.attempt()
    jobkit.checkpoint(1)
    bench.attempt()
    waits.clear()
    assert jobkit.resume(0) == 1
    assert waits == ([-1.0] if is_shared else [math.inf, -1.0, PATIENCE_S])


def test_a_version_of_the_state_refuses_checkpoints_of_another_one(bench: Bench) -> None:
    bench.attempt()
    jobkit.checkpoint({"step": 1})
    bench.attempt()
    assert jobkit.resume("anew", version=2) == "anew"
    assert "it has no version, and this code wants 2" in bench.heard.texts[0]
    jobkit.checkpoint({"step": 2})
    bench.attempt()
    assert jobkit.resume("anew", version=2) == {"step": 2}
    bench.attempt()
    assert jobkit.resume("anew") == {"step": 2}


def test_other_code_of_the_task_is_mentioned(bench: Bench) -> None:
    bench.attempt().function = lambda: 1
    jobkit.checkpoint(1)
    bench.attempt().function = lambda: 2
    assert jobkit.resume(None) == 1
    assert "the code of the task has changed since" in bench.heard.texts[0]


def test_a_value_that_cannot_be_rebuilt_fails_the_attempt_and_loses_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.attempt()
    jobkit.checkpoint({"pill": Pill()})
    bench.attempt()
    with monkeypatch.context() as patched:
        patched.delattr(f"{__name__}.Pill")
        with pytest.raises(JobkitError, match="cannot be rebuilt"):
            jobkit.resume("anew")
    assert isinstance(jobkit.resume(None)["pill"], Pill)
    Pill.swallowed = False


def test_a_task_class_without_declared_state_is_no_value(bench: Bench) -> None:
    bench.attempt()

    class Stateless(jobkit.Task):
        def run(self) -> None: ...

    with pytest.raises(InvalidParams, match="Stateless declares no state"):
        jobkit.checkpoint(Stateless())
    with pytest.raises(InvalidParams, match="state of Wrong names 'epcoh'; its parameters are: none"):

        class Wrong(jobkit.Task):
            state = ("epcoh",)

            def run(self) -> None: ...


@in_files
def test_a_job_whose_source_is_gone_says_so(bench: Bench) -> None:
    bench.attempt(bench.place("j2"), bench.place())

    assert jobkit.resume("anew") == "anew"
    assert bench.heard.texts == ["the checkpoint of job j1 cannot be continued: this job begins anew"]


@in_files
def test_a_file_that_cannot_be_written_now_fails_the_attempt_and_loses_nothing(bench: Bench) -> None:
    bench.attempt()
    Path("model.pt").write_text("weights")
    jobkit.checkpoint(1, "model.pt")
    Path("model.pt").unlink()
    Path("model.pt").mkdir()

    bench.attempt()
    with pytest.raises(OSError, match="model.pt"):
        jobkit.resume("anew")

    Path("model.pt").rmdir()
    assert jobkit.resume("anew") == 1


def test_another_job_goes_on_from_the_checkpoint_until_it_has_its_own(bench: Bench) -> None:
    bench.attempt()
    jobkit.checkpoint({"step": 3})
    source = bench.place(known=tuple(bench.heard.written)) if not bench.results else bench.place()
    mine = bench.place("j2", known=())
    bench.attempts = 0

    bench.attempt(mine, source)
    assert jobkit.resume(None) == {"step": 3}
    jobkit.checkpoint({"step": 4})

    bench.attempt(mine if bench.results else bench.place("j2", known=tuple(bench.heard.written[-1:])), source)
    assert jobkit.resume(None) == {"step": 4}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"epoch": 43, "loss": 0.2}, "epoch 43"),
        ({"name": "x", "loss": 0.25}, "loss 0.25"),
        ({"completed": True}, ""),
        (7, "7"),
        (1_234_567, "1234567"),
        ({"epoch": np.int64(43)}, "epoch 43"),
        (float("nan"), ""),
        ([1], ""),
        ({1: 2}, ""),
        ({"small": -(10**5000), "epoch": 3}, "epoch 3"),
    ],
)
def test_the_first_number_of_a_value_names_it(value: object, text: str) -> None:
    assert label_of(value) == text


@pytest.mark.parametrize("begun", [3, 4])
def test_a_bar_over_the_rest_of_a_loop_starts_at_the_checkpoint(begun: int) -> None:
    heard = Listener()
    recorder = Recorder(heard, lambda: None)
    recorder.go_on(3, 10)
    assert heard.news[-1][:2] == (3, 10)
    bar = Bar("", 10 - begun)
    recorder.open_bar(bar)
    bar.completed = 2

    assert recorder.position == (begun + 2, 10)


def test_a_bar_over_the_whole_loop_or_another_one_starts_at_its_own_beginning() -> None:
    for total in (10, 2, None):
        recorder = Recorder(Listener(), lambda: None)
        recorder.go_on(3, 10)
        bar = Bar("", total)
        recorder.open_bar(bar)
        assert recorder.position == (0, total)


@in_files
def test_outside_of_a_job_a_call_with_the_same_arguments_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOBKIT_HOME", str(bench.folder / "home"))

    def train(epochs: int, stops_at: int = -1) -> list[int]:
        seen = []
        state = jobkit.resume({"epoch": 0})
        for epoch in range(state["epoch"], epochs):
            if len(seen) == 2:
                raise KeyboardInterrupt
            seen.append(epoch)
            jobkit.checkpoint({"epoch": epoch + 1})
        return seen

    with pytest.raises(KeyboardInterrupt):
        train(4)
    assert train(4) == [2, 3]
    assert train(4) == []  # whether a call had come to its end is not known
    assert train(2) == [0, 1]
    assert "resumed at epoch 2" in capsys.readouterr().err
    (one, other) = Path("jobkit-checkpoints").iterdir()
    assert len(list(one.iterdir())) == len(list(other.iterdir())) == 2
    assert (bench.folder / "home/checkpoint-key").stat().st_mode & 0o777 == 0o600
    (bench.folder / "home/checkpoint-key").write_text("of another user")
    with pytest.raises(KeyboardInterrupt):
        train(4)


@in_files
def test_a_program_that_a_job_has_started_keeps_no_checkpoints(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBKIT_JOB_ID", "j1")

    assert jobkit.resume("anew") == "anew"
    assert not jobkit.checkpoint(1)
    assert list(Path.cwd().iterdir()) == []


@in_files
def test_a_checkpoint_that_only_another_machine_has_is_named(bench: Bench) -> None:
    info = CheckpointInfo("checkpoint.000001.00000007", attempt=1, text="step 7", host="node7", place="/data")
    bench.attempts = 1
    bench.attempt(bench.place(known=((info, b""),)))

    assert jobkit.resume("anew") == "anew"
    assert "the checkpoint of attempt 1 (step 7) is in /data of node7, and not in" in bench.heard.texts[0]
    assert "set JOBKIT_RESULTS of all workers to a directory that they share" in bench.heard.texts[0]


def test_the_time_left_counts_from_the_checkpoint() -> None:
    now = datetime.now(UTC)
    began = now - timedelta(seconds=70)
    numbers = {"completed": 50.0, "total": 100.0, "resumed": "resumed at epoch 43", "resumed_completed": 43.0}
    job = JobSnapshot(JobSpec("j1", "train"), 2, JobState.RUNNING, started_at=began, **numbers)  # type: ignore[arg-type]

    assert job.eta_s(now) == pytest.approx(500, abs=1)
    assert progress_line(job.completed, job.total, 70.0, job.resumed_completed) == "50 / 100 · 10 s each"
    assert job.shown_message == "resumed at epoch 43"


def test_a_damaged_head_is_no_crash() -> None:
    files = CheckpointFiles(CheckpointPlace("j1", "t"))
    for content in (b"", b"JKC1", bytes(11) + b"JKC1", b"x" * 20 + (2**60).to_bytes(8, "big") + b"JKC1"):
        with pytest.raises(Damaged):
            files.head(io.BytesIO(content), "checkpoint.000001.00000001")


@pytest.mark.parametrize(
    ("facts", "size"),
    [
        ({"name": "other"}, 0),
        ({"name": "checkpoint.000001.00000001", "at_ms": 2**62}, 0),
        ({"name": "checkpoint.000001.00000001", "at_ms": -1}, 0),
        ({"name": "checkpoint.000001.00000001", "text": "x" * 81}, 0),
        ({"name": "checkpoint.000001.00000001", "files": ["x" * 1000] * 1000}, 0),
        ({"name": "checkpoint.000001.00000001"}, 1_000_001),
    ],
)
def test_a_process_cannot_tell_its_worker_of_a_checkpoint_that_no_job_writes(facts: dict[str, Any], size: int) -> None:
    read = news.of("checkpoint").read
    assert read([{"name": "checkpoint.000001.00000001", "at_ms": 5}, bytes(1_000_000)])[0].at_ms == 5

    with pytest.raises(ValueError, match="a checkpoint "):
        read([facts, bytes(size)])


def test_processes_that_start_together_have_the_same_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBKIT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("JOBKIT_SECRET", raising=False)
    drawn, keys = secrets.token_hex, list[bytes]()

    def draw(count: int) -> str:
        monkeypatch.setattr(secrets, "token_hex", drawn)
        keys.append(own_key())  # of another process, which begins while the first one makes its key
        return drawn(count)

    monkeypatch.setattr(secrets, "token_hex", draw)
    keys.append(own_key())

    assert len(keys[0]) == 64
    assert keys[0] == keys[1]
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["checkpoint-key"]
    assert (tmp_path / "home" / "checkpoint-key").stat().st_mode & 0o777 == 0o600


def test_other_machines_of_a_joined_place_do_not_know_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    member = Membership("lab", "m", "127.0.0.1", 1, "", "worker-0", "p", "default", "worker", secret="0" * 64)
    monkeypatch.setenv("JOBKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("JOBKIT_URL", member.inline_url)

    assert own_key() == (tmp_path / "home" / "checkpoint-key").read_bytes() != member.secret.encode()


def test_a_directory_that_has_the_checkpoints_is_copied_without_them(tmp_path: Path) -> None:
    for name in ("model.pt", "jobkit-checkpoints/train-1/checkpoint.000002.00000001", "data/checkpoint.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    assert set(relative_files(["."], tmp_path)) == {"model.pt", "data/checkpoint.txt"}
