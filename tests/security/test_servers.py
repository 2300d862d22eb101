"""Redis on a network, the embedded server on a shared machine, and user input (T6 to T8, T14, T16, T19)."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

import jobkit
from jobkit.embedded import shutdown
from jobkit.features.sharing.rights import MemberRole, rights_of
from jobkit.settings import Settings
from jobkit.store.binary import find_server
from jobkit.store.library import RIGHTS
from tests.client.test_frozen_server import VERBS, answers, frozen
from tests.store.server import Server
from tests.support import environment, free_port, processes_of, wait_until
from tests.worker import jobs
from tests.worker.conftest import Bench

# -- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tls(certificates: Path) -> Iterator[int]:
    """Port of a server with TLS."""
    server = Server()
    server.start()
    port = server.listen()
    with redis.Redis(unix_socket_path=str(server.socket)) as client:
        try:
            for name, file in (("ca-cert-file", "ca.crt"), ("key-file", "server.key"), ("cert-file", "server.crt")):
                client.config_set(f"tls-{name}", str(certificates / file))
            client.config_set("tls-auth-clients", "no")
            client.config_set("port", 0)
            client.config_set("tls-port", port)
        except redis.RedisError as error:  # the wheel's server has no TLS, and exits if it is requested
            server.stop()
            pytest.skip(f"this server does not speak TLS: {error}")
    yield port
    server.stop()


def test_tls_verifies_the_certificate_and_the_name(tls: int, certificates: Path) -> None:
    trusted = f"ssl_ca_certs={certificates}/ca.crt"
    with jobkit.connect(f"rediss://localhost:{tls}?{trusted}", secret="s") as kit:
        assert kit.submit(len, "abc").state == "queued"

    with pytest.raises(jobkit.StoreUnavailable, match="a certificate for another name: use the name in"):
        jobkit.connect(f"rediss://127.0.0.1:{tls}?{trusted}", secret="s")
    with pytest.raises(jobkit.StoreUnavailable, match=r"of an unknown authority: add \?ssl_ca_certs=PATH"):
        jobkit.connect(f"rediss://localhost:{tls}", secret="s")


def test_a_server_that_asks_for_a_client_certificate_says_so(tls: int, certificates: Path) -> None:
    trusted = f"ssl_ca_certs={certificates}/ca.crt"
    own = f"ssl_certfile={certificates}/server.crt&ssl_keyfile={certificates}/server.key"
    with redis.Redis.from_url(f"rediss://localhost:{tls}?{trusted}") as client:
        client.config_set("tls-auth-clients", "yes")

    with pytest.raises(jobkit.StoreUnavailable, match=r"client certificate.* add \?ssl_certfile"):
        jobkit.connect(f"rediss://localhost:{tls}?{trusted}", secret="s")
    with jobkit.connect(f"rediss://localhost:{tls}?{trusted}&{own}", secret="s") as kit:
        assert kit.submit(len, "abc").state == "queued"


def test_a_server_without_tls_is_told_from_one_that_is_away(own_bench: Bench) -> None:
    # It answers or waits for more, as a greeting in TLS happens to hold an end of line.
    with pytest.raises(jobkit.StoreUnavailable, match="runs, speaks TLS there|does not speak TLS"):
        jobkit.connect(f"rediss://localhost:{own_bench.server.listen()}", secret="s")


def test_doctor_names_the_rights_that_a_user_lacks_behind_tls(tls: int, certificates: Path) -> None:
    url = f"localhost:{tls}?ssl_ca_certs={certificates}/ca.crt"
    with redis.Redis.from_url(f"rediss://{url}") as client:
        client.execute_command("ACL", "SETUSER", "some", "on", ">canary", *RIGHTS.split(), "-xadd", "-zadd")
    env = environment(JOBKIT_URL=f"rediss://some:canary@{url}", JOBKIT_SECRET="s")

    run = subprocess.run([sys.executable, "-m", "jobkit", "doctor"], env=env, capture_output=True, text=True)

    lacks = "user some lacks the command XADD, the command ZADD → ACL SETUSER some "
    assert run.returncode == 1
    assert lacks + RIGHTS in run.stdout
    assert "canary" not in run.stdout


def test_doctor_takes_a_user_with_the_documented_rights_of_a_viewer_as_one(own_bench: Bench) -> None:
    with jobkit.connect(**own_bench.place) as kit, redis.Redis.from_url(own_bench.server.url) as client:
        kit.submit(len, "abc")
        viewer = rights_of(MemberRole.VIEWER, kit.settings.namespace)
        client.execute_command("ACL", "SETUSER", "eve", "on", ">canary", *viewer)
        url = f"redis://eve:canary@127.0.0.1:{own_bench.server.listen()}"
        env = environment(JOBKIT_URL=url, JOBKIT_NAMESPACE=kit.settings.namespace)

    run = subprocess.run([sys.executable, "-m", "jobkit", "doctor"], env=env, capture_output=True, text=True)

    assert run.returncode == 0, run.stdout + run.stderr
    assert "ok    rights       user eve may only read" in run.stdout
    assert "ACL SETUSER" not in run.stdout


@pytest.mark.nightly
def test_verbs_give_up_a_frozen_server_behind_tls(
    tls: int, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBKIT_REPLY_TIMEOUT", "3")
    url = f"rediss://localhost:{tls}?ssl_ca_certs={certificates}/ca.crt"
    with jobkit.connect(url, secret="s") as kit, redis.Redis.from_url(url) as client:
        job = kit.submit(len, "abc")
        for verb in VERBS.values():
            pid = client.info("server")["process_id"]
            with frozen(pid), pytest.raises(jobkit.StoreUnavailable, match="does not answer"):
                verb(kit, job.id)
            wait_until(lambda: answers(kit), what="the server")


def test_sentinels_and_their_primary_are_reached_by_tls(tls: int, certificates: Path, tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port 0\ntls-port {port}\ntls-cert-file {certificates}/server.crt\ntls-key-file {certificates}/server.key\n"
        f"tls-ca-cert-file {certificates}/ca.crt\ntls-auth-clients no\ntls-replication yes\nlogfile {tmp_path}/log\n"
        f"sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n"
        f"sentinel monitor main localhost {tls} 1\n"
    )
    process = subprocess.Popen([find_server("redis").path, str(config), "--sentinel"])
    hosts, trusted = f"localhost:{port}/main", f"ssl_ca_certs={certificates}/ca.crt"
    try:
        with redis.Redis.from_url(f"rediss://localhost:{port}?{trusted}") as client:
            wait_until(lambda: _answers(client), what="the Sentinel")
        with jobkit.connect(f"rediss+sentinel://{hosts}?{trusted}", secret="s") as kit:
            assert kit.submit(len, "abc").state == "queued"
        with pytest.raises(jobkit.StoreUnavailable, match="of an unknown authority"):
            jobkit.connect(f"rediss+sentinel://{hosts}", secret="s")
    finally:
        process.kill()
        process.wait()


def _answers(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.ConnectionError):
        return bool(client.ping())
    return False


@pytest.mark.nightly
def test_worker_and_doctor_warn_of_a_redis_on_the_network_without_tls_and_password() -> None:
    env = environment(JOBKIT_URL="redis://redis.invalid:6379/0", JOBKIT_SECRET="s")

    def say(*command: str) -> str:
        run = subprocess.run([sys.executable, "-m", "jobkit", *command], env=env, capture_output=True, text=True)
        assert run.returncode != 0  # there is none
        return run.stdout + run.stderr

    for command in (["doctor"], ["worker", "--burst"]):
        assert "redis://redis.invalid:6379/0 is reached over the network without TLS and a password" in say(*command)


# -- rights -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["redis", "valkey"])
def flavoured_bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """Bench with its own server, of each flavour that this machine has."""
    server = Server(str(find_server(request.param).path))
    server.start()
    bench = Bench(server, tmp_path)
    yield bench
    bench.close()
    server.stop()


@pytest.mark.nightly
def test_the_documented_redis_rights_are_enough_and_no_more(flavoured_bench: Bench) -> None:
    bench = flavoured_bench
    page = (Path(__file__).parent.parent.parent / "docs" / "reliability.md").read_text()
    assert RIGHTS in page
    port = bench.server.listen()
    with redis.Redis.from_url(bench.server.url) as client:
        client.execute_command("ACL", "SETUSER", "jobkit", "on", ">canary", *RIGHTS.split())
    bench.place["url"] = f"redis://jobkit:canary@127.0.0.1:{port}/0"

    with jobkit.connect(**bench.place) as kit:
        bench.kit.close()
        bench.kit = kit
        bench.worker()
        job = kit.options(key="k", delay=0.01).submit(jobs.talk, 10)
        assert job.result(60) == b"x" * 10
        assert [event.type for event in job.events()][-1] == "succeeded"
        assert kit.logs(job.id)
        assert kit.jobs(search="talk")
        waiting = kit.options(delay=1000).submit(jobs.count_up, 1)
        assert waiting.cancel()
        assert kit.delete([waiting.id]) == [True]
        assert kit.prune(keep=0) == 1
        assert next(kit.events(after="0-0")).type == "submitted"
        assert kit.stats()["workers"] == 1
    with redis.Redis.from_url(bench.place["url"]) as client:
        for forbidden in (
            ("FLUSHALL",),
            ("KEYS", "*"),
            ("CONFIG", "GET", "*"),
            ("GET", "other"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*forbidden)
    assert "canary" not in bench.said()


# -- the embedded server ----------------------------------------------------------------------------------------------


@pytest.mark.nightly
def test_another_user_of_the_machine_cannot_reach_the_embedded_server() -> None:
    home = Path(tempfile.mkdtemp(prefix="jk-", dir="/tmp"))
    os.chmod(home, 0o700)
    before = os.umask(0)
    try:
        with jobkit.connect(f"local://{home}") as kit:
            assert kit.submit(len, "abc").result(60) == 3
            path = kit.settings.url.removeprefix("unix://").partition("?")[0]
            for each in (home, *home.rglob("*")):
                assert each.stat().st_mode & 0o077 == 0, f"{each} is open to others"
            for process in processes_of(home):
                with contextlib.suppress(psutil.NoSuchProcess):  # the process of a job that has just ended
                    assert not [c for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
            if os.getuid() == 0:  # needed to become another user
                script = (
                    "import os, socket, sys\nos.setgid(65534); os.setuid(65534)\n"
                    "try:\n    socket.socket(socket.AF_UNIX).connect(sys.argv[1])\n"
                    "except PermissionError:\n    sys.exit(7)\n"
                )
                assert subprocess.run([sys.executable, "-c", script, path], check=False).returncode == 7
    finally:
        os.umask(before)
        shutdown(Settings(home=home), now=True)
        shutil.rmtree(home)


# -- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.nightly
def test_no_password_or_secret_is_in_output_logs_or_command_lines(own_bench: Bench) -> None:
    bench = own_bench
    port = bench.server.listen()
    with redis.Redis.from_url(bench.server.url) as client:
        client.config_set("requirepass", "canary-password")
    bench.place |= {"url": f"redis://:canary-password@127.0.0.1:{port}/0", "secret": "canary-secret"}
    bench.kit.close()
    outputs = []
    env = environment(**{f"JOBKIT_{name.upper()}": value for name, value in bench.place.items()})
    with jobkit.connect(**bench.place) as kit:
        bench.kit = kit
        bench.worker("-v")
        assert kit.submit(jobs.count_up, 1).result(60) == 2
        outputs += [repr(kit), repr(kit.settings), str(kit.stats()), str(kit.workers())]
        for process in psutil.process_iter():
            try:
                outputs.append(" ".join(process.cmdline()))
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        for command in (["doctor"], ["jobs"], ["workers", "--json"]):
            run = subprocess.run([sys.executable, "-m", "jobkit", *command], env=env, capture_output=True, text=True)
            outputs += [run.stdout, run.stderr]
        bench.server.kill()
        with pytest.raises(jobkit.StoreUnavailable) as told:
            kit.submit(jobs.count_up, 1)
        outputs.append(str(told.value))
    run = subprocess.run([sys.executable, "-m", "jobkit", "jobs"], env=env, capture_output=True, text=True, check=False)
    assert run.returncode != 0
    outputs += [run.stdout, run.stderr, bench.said()]

    assert not [text for text in outputs if "canary" in text]


def test_no_job_finds_the_key_or_the_url_in_its_environment(bench: Bench) -> None:
    worker = bench.worker()
    coroutine = jobs.surroundings_of_coroutine
    seen = {
        "process": bench.kit.submit(jobs.surroundings).result(60),
        "thread": bench.kit.options(isolation="thread").submit(jobs.surroundings).result(60),
        "loop": bench.kit.submit(coroutine).result(60),
        "child": bench.kit.options(isolation="process").submit(coroutine).result(60),
    }

    own = {name for name, found in seen.items() if found["pid"] == worker.pid}
    assert own == {"thread", "loop"}
    for found in seen.values():
        environ = found["environ"]
        assert environ["PATH"]
        assert not {"JOBKIT_SECRET", "JOBKIT_URL"} & set(environ)
        assert "of these tests" not in environ.values()


# -- user input -----------------------------------------------------------------------------------------------------


def test_too_large_and_too_deep_arguments_are_refused_and_not_stored(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    before = len(bench.kit.jobs(limit=1000))
    monkeypatch.setattr(bench.kit.verbs.parts, "_most_bytes", 2_000_000)

    with pytest.raises(jobkit.InvalidParams, match=r"takes 3\.\d MB, more than the 2\.0 MB"):
        bench.kit.submit(len, bytes(3_000_000))
    with pytest.raises(jobkit.InvalidParams):
        bench.kit.submit(len, deep)

    assert len(bench.kit.jobs(limit=1000)) == before
    while deep:  # taken apart from outside: freeing it at once would recurse deeply
        deep = deep[0]  # type: ignore[assignment]


@pytest.mark.parametrize("name", ["os:system", "builtins:eval", "subprocess.run", "../x", "os.system"])
def test_an_unregistered_name_is_not_a_task(bench: Bench, name: str) -> None:
    with pytest.raises(jobkit.UnknownTask):
        bench.kit.submit(name)


@pytest.mark.parametrize("key", ["\x00", "a\nb", "*", "{x}", "a" * 10_000, "‮abc", "a b", "a/b", "$", "é"])
def test_a_job_key_with_special_characters_is_refused_and_nothing_is_written(bench: Bench, key: str) -> None:
    with redis.Redis.from_url(bench.server.url) as client:
        before = set(client.keys(f"jk:{bench.kit.settings.namespace}:*"))
        for options in ({"key": key}, {"queue": key}):
            with pytest.raises(jobkit.InvalidParams):
                bench.kit.options(**options).submit(jobs.count_up, 1)
        with pytest.raises(jobkit.JobkitError):
            bench.kit.get(key)
        assert set(client.keys(f"jk:{bench.kit.settings.namespace}:*")) == before
