"""Keys after `jobkit share --revoke`: work goes on with the new key, and what the old one signs is refused."""

from __future__ import annotations

import io
import os
import pickle
import time
from dataclasses import replace
from http.client import HTTPSConnection
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from msgspec.structs import replace as changed

import jobkit
from jobkit.client.loop import background
from jobkit.codec import PICKLE, RAW, Codec, Subject
from jobkit.embedded.home import Home
from jobkit.features.checkpoints.checkpoint_info import CheckpointInfo, checkpoint_name
from jobkit.features.checkpoints.files import CheckpointFiles, CheckpointHead, CheckpointPlace
from jobkit.features.moving.dump import Dump, read_dumps
from jobkit.features.moving.transfer import JobExport, JobImport
from jobkit.features.sharing import hosting
from jobkit.features.sharing.members import Members
from jobkit.features.sharing.rights import MemberRole
from jobkit.files.file_store import FileStore, JobFolder
from jobkit.files.places import place_of
from jobkit.joined import KEYS_PATH, Membership, membership_of
from jobkit.keys import codec_of, proof_of
from jobkit.model import ResultExpired, SignatureError
from jobkit.settings import Settings
from tests.embedded.conftest import home_of_test
from tests.features.sharing.conftest import member_of, run, running
from tests.store.server import Server
from tests.support import free_port, wait_until
from tests.worker import jobs

CALL = Subject("args", "0" * 20, "work")


def name_of(shared: Settings, place: Membership) -> str:
    (name,) = (each.name for each in Members(Home.at(shared.home)).read().members if each.user == place.user)
    return name


def ask_for_keys(place: Membership, proof: bytes) -> int:
    """Return the status of the gateway's answer."""
    connection = HTTPSConnection(place.host, place.port, context=place.tls("http/1.1"), timeout=30)
    try:
        connection.request("POST", KEYS_PATH, proof, {"Authorization": place.authorization()})
        return connection.getresponse().status
    finally:
        connection.close()


def test_members_that_stay_get_the_new_key_by_themselves(shared: Settings, tmp_path: Path) -> None:
    stays, goes = member_of(shared, tmp_path / "stays"), member_of(shared, tmp_path / "goes")
    member = codec_of(Settings.load(url=stays.url, home=tmp_path / "stays"))
    inline = codec_of(Settings.load(url=stays.inline_url, home=tmp_path / "none"))
    former = Codec.from_secret(goes.secret)
    hosting.revoke(shared, [name_of(shared, goes)])
    now = Home.at(shared.home).secret("default")
    home = Codec.from_secret(now)

    for codec in (member, inline):
        assert codec.loads(home.dumps(1, CALL), CALL) == 1, "it has asked for the key that it did not know"
        assert home.verify(codec.dumps(2, CALL), CALL, is_stored=False)
        assert codec.loads(former.dumps(3, CALL), CALL) == 3, "the store has what was sealed before"
        with pytest.raises(SignatureError, match="replaced when a machine was revoked"):
            codec.verify(former.dumps(4, CALL), CALL, is_stored=False)
    with pytest.raises(SignatureError):
        former.loads(home.dumps(5, CALL), CALL)
    assert membership_of(stays.url, tmp_path / "stays") == changed(stays, secret=now), "later processes begin with it"
    assert not list((tmp_path / "none").glob("joined/*"))


def test_only_a_member_that_has_had_a_key_is_told_the_new_one(shared: Settings, tmp_path: Path) -> None:
    stays, goes = member_of(shared, tmp_path / "stays"), member_of(shared, tmp_path / "goes")
    viewer = member_of(shared, tmp_path / "viewer", MemberRole.VIEWER)
    former = Codec.from_secret(goes.secret)
    proofs = {place: former.seal(RAW, b"", proof_of(place.user)) for place in (stays, goes, viewer)}
    hosting.revoke(shared, [name_of(shared, goes)])

    assert ask_for_keys(stays, proofs[stays]) == 200
    assert ask_for_keys(stays, Codec().seal(RAW, b"", proof_of(stays.user))) == 403, "as a job on it could"
    assert ask_for_keys(stays, proofs[goes]) == 403
    assert ask_for_keys(goes, proofs[goes]) == 401
    assert ask_for_keys(viewer, b"") == 403


def test_the_key_stays_when_a_machine_leaves_or_a_viewer_is_revoked(shared: Settings, tmp_path: Path) -> None:
    known = Home.at(shared.home).secret("default")
    leaves, viewer = member_of(shared, tmp_path), member_of(shared, tmp_path / "viewer", MemberRole.VIEWER)

    assert run("join", "--leave", leaves.name, home=tmp_path).returncode == 0
    hosting.revoke(shared, [name_of(shared, viewer)])
    assert Home.at(shared.home).secret("default") == known


def test_an_export_that_is_not_sealed_with_the_key_of_now_brings_records_alone(server: Server) -> None:
    places = [{"url": server.url, "namespace": f"t{token_hex(4)}"} for _ in range(3)]
    with jobkit.connect(**places[0], secret="old") as kit:
        job = kit.submit(len, "abc")
        job.cancel()
        export = JobExport(kit)
        old = b"".join([*export.lines([job.id]), *export.end()])
    with jobkit.connect(**places[1], secret="new,retired:old") as kit:
        problems, dump = moved(kit, old, job.id)
        assert "not sealed with the key of now" in problems
        assert (dump.args, dump.snapshot.state) == (b"", "cancelled")
        export = JobExport(kit)
        new = b"".join([*export.lines([job.id]), *export.end()])
    with jobkit.connect(**places[2], secret="new,retired:old") as kit:
        assert moved(kit, new, job.id)[0] == ""
    with jobkit.connect(**places[2] | {"namespace": f"t{token_hex(4)}"}, secret="old") as kit:
        problems, dump = moved(kit, old, job.id)
        assert (problems, bool(dump.args)) == ("", True), "no machine was revoked"


def moved(kit: jobkit.Kit, lines: bytes, job_id: str) -> tuple[str, Dump]:
    """Import lines; return what was said, and the job as it is stored."""
    job_import = JobImport(kit, io.BytesIO(lines))
    job_import.check()
    job_import.store()
    (dump,) = background.call(read_dumps(kit.verbs.store, [job_id]))
    assert dump is not None
    return ", ".join(job_import.problems), dump


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def keep_state() -> int:
    state: dict[str, int] = jobkit.resume({"n": 0})
    jobkit.checkpoint({"n": state["n"] + 1})
    return state["n"]


def ask_another(kit: Any, sign: str) -> int:
    while not Path(sign).exists():
        time.sleep(0.01)
    found: int = kit.options(queue="far").submit(len, "abcdef").result(60)
    return found


@pytest.mark.nightly  # a home, two machines and two workers
def test_work_goes_on_for_the_others_and_nothing_of_a_revoked_machine_is_accepted(tmp_path: Path) -> None:
    files, sign, mark, trap = (tmp_path / name for name in ("files", "sign", "mark", "trap"))
    files.mkdir(0o700)
    ways = {name: tmp_path / name for name in ("stays", "goes")}
    with home_of_test() as settings:
        settings = replace(settings, results=str(files))
        hosting.share(settings, "127.0.0.1", free_port())
        stays, goes = (member_of(settings, home) for home in ways.values())
        former = Codec.from_secret(goes.secret)
        place = {"home": settings.home, "results": str(files)}
        with (
            running(
                *("worker", "-q", "far", "-c", "2", "-t", "tests.worker.jobs"),
                home=ways["stays"], JOBKIT_URL=stays.url, JOBKIT_RESULTS=str(files),
            ),
            jobkit.connect(**place) as here,
            jobkit.connect(stays.url, home=ways["stays"], results=str(files)) as there,
        ):  # fmt: skip
            far = here.options(queue="far")
            large = far.submit(lambda: bytes(2_000_000))
            kept = far.submit(keep_state)
            local = here.submit(len, "ab")
            assert (len(large.result(60)), kept.result(60), local.result(60)) == (2_000_000, 0, 2)
            old = tmp_path / "old.jsonl"
            exported = run("export", str(old), home=ways["goes"], JOBKIT_URL=goes.url, JOBKIT_RESULTS=str(files))
            assert exported.returncode == 0, exported.stderr
            runs, asks = far.submit(jobs.until, str(mark), str(sign)), far.submit(ask_another, there, str(sign))
            wait_until(lambda: (runs.state, asks.state) == ("running", "running"), what="both jobs to run")
            waits = far.submit(len, "abc")

            revoked = run("share", "--revoke", name_of(settings, goes), home=settings.home)
            assert revoked.returncode == 0, revoked.stderr
            with jobkit.connect(**place) as fresh:
                assert fresh.settings.secret != here.settings.secret
                late = [fresh.options(queue=queue).submit(len, "abcd") for queue in ("far", "default")]
                sign.touch()
                assert [job.result(60) for job in late] == [4, 4]
                assert [here.get(job.id).result(60) for job in late] == [4, 4]
                assert [there.get(job.id).result(60) for job in late] == [4, 4]
                assert (runs.result(60), asks.result(60), waits.result(60)) == ("done", 6, 3)
                assert there.submit(len, "abcde").result(60) == 5
                assert not [line for line in run("doctor", home=settings.home).stdout.splitlines() if "secret" in line]

                # What it could still place: a result, a checkpoint, an export.
                assert len(fresh.get(large.id).result()) == 2_000_000
                _replace_result(files, large, former, trap)
                for kit in (fresh, there):
                    with pytest.raises(SignatureError, match="was replaced"):
                        kit.get(large.id).result()
                _add_checkpoint(here, kept, former, str(files))
                assert fresh.retry(kept.id, from_checkpoint=True).result(60) == 1
                fresh.delete([local.id])
                imported = run("import", str(old), home=settings.home, JOBKIT_RESULTS=str(files))
                assert "not sealed with the key of now" in imported.stderr
                with pytest.raises(ResultExpired):
                    fresh.get(local.id).result(10)

                # What the others export is whole.
                new = tmp_path / "new.jsonl"
                assert run("export", str(new), home=ways["stays"], JOBKIT_URL=stays.url).returncode == 0
                fresh.delete([waits.id])
                assert run("import", str(new), home=settings.home).returncode == 0
                assert fresh.get(waits.id).result(10) == 3
    assert not trap.exists()


def _replace_result(files: Path, job: Any, codec: Codec, trap: Path) -> None:
    (path,) = (path for path in files.rglob("result*") if path.stat().st_size > 2_000_000)
    subject = Subject(f"result\0{path.relative_to(files)}", job.id, job.snapshot.spec.task)
    path.write_bytes(codec.seal(PICKLE, pickle.dumps(Trap(trap)), subject))


def _add_checkpoint(kit: Any, job: Any, codec: Codec, results: str) -> None:
    call, store = kit.connection.call, kit.connection.store
    us, path = call(store.submitted_us, job.id), call(store.folder, job.id)
    folder = JobFolder(FileStore(place_of(results)), path, "")
    place = CheckpointPlace.of(codec, job.id, job.snapshot.spec.task, us, folder, results)
    form, body = codec.encode({"n": 666})
    CheckpointFiles(place).write(CheckpointHead(CheckpointInfo(checkpoint_name(1, 99)), form, ()), body, {})
