"""jobkit as its code sees Windows: a client of a Redis elsewhere, and a sentence instead of a server or workers."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import jobkit
from tests.client.conftest import worker_of
from tests.store.server import Server, find_server
from tests.support import PROGRAM, ROOT, environment, wait_until
from tests.ui.conftest import Window

#: Rooms and modules of workers, and of an extension of JupyterLab. All others can be imported.
OF_WORKERS = re.compile(
    r"jobkit\.(worker|system|run\.(process|watch|placement)|__main__|http\.login|cli\.app"
    r"|features\.\w+\.(attempts|beside|build|door|execution|jupyter_scheduler|worker)|features\.arq\.(bridge|runner))\b.*"
)

IMPORT_ALL = """
import importlib
for name in {names}:
    importlib.import_module(name)
"""

SESSION = """
import asyncio, time
import jobkit
from IPython.core.formatters import DisplayFormatter

@jobkit.task
def square(n: int) -> int:
    print("squaring", n)
    return n * n

with jobkit.connect() as kit:
    job = kit.submit(square, n=7)
    seen = [str(job.state)]
    job.param.watch(lambda change: seen.append(str(change.new)), "state")
    assert job.result(timeout=60) == 49, job
    assert "squaring 7" in str(job.logs())
    assert [each.result(timeout=60) for each in kit.map(square, [1, 2, 3])] == [1, 4, 9]
    assert len(kit.submit(bytes, 2_000_000).result(timeout=60)) == 2_000_000
    stopped = kit.submit(time.sleep, 600)
    stopped.cancel()
    assert stopped.wait(60) and stopped.state == "cancelled"
    failed = kit.submit(int, "seven")
    failed.wait(60)
    assert failed.error.type == "ValueError", failed.error
    kit.schedule(len, ["abc"], cron="0 6 * * *", tz="Europe/Berlin", name="nightly")
    assert len(kit.schedules()) == 1
    assert len(kit.jobs()) >= 6

    async def waits():
        return await (await kit.aio.submit(square, n=3))

    assert asyncio.run(waits()) == 9
    shown, _ = DisplayFormatter().format(job)
    assert "square" in shown["text/html"], shown
print(*seen)
"""


def on_windows(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` with what jobkit sees on Windows."""
    start = "import runpy, sys, tests.windows.pretend; sys.argv[:] = sys.argv[1:]; "
    if arguments[0] == "-c":
        argv = [sys.executable, "-c", f"import tests.windows.pretend\n{arguments[1]}"]
    else:
        argv = [sys.executable, "-c", start + "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"]
        argv += arguments[1:]
    return subprocess.run(
        argv, env=environment(**variables), cwd=ROOT, capture_output=True, text=True, encoding="cp1252", timeout=120
    )


@pytest.fixture(scope="module")
def site(server: Server) -> Iterator[dict[str, str]]:
    """Environment of a client whose server and worker are elsewhere."""
    place = {"url": f"redis://127.0.0.1:{server.listen()}", "namespace": f"t{secrets.token_hex(4)}", "secret": "s" * 32}
    with worker_of(place):
        yield {f"JOBKIT_{name.upper()}": value for name, value in place.items()}


def test_all_modules_but_those_of_workers_can_be_imported() -> None:
    files = sorted((ROOT / "jobkit").rglob("*.py"), key=lambda path: path.stem == "complete")
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files]
    names = [name for name in names if not OF_WORKERS.fullmatch(name)]
    done = on_windows("-c", IMPORT_ALL.format(names=names))
    assert done.returncode == 0, done.stderr


def test_a_client_submits_watches_and_reads(site: dict[str, str]) -> None:
    done = on_windows("-c", SESSION, **site)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "succeeded"


@pytest.mark.parametrize("url", ["", "local://", "sync://", "unix:///tmp/r.sock"])
def test_connecting_to_what_windows_lacks_is_one_sentence(url: str, tmp_path: Path) -> None:
    call = f"jobkit.connect({url or None!r})"
    code = f"import jobkit\ntry:\n    {call}\nexcept jobkit.JobkitError as error:\n    print(error)"
    done = on_windows("-c", code, JOBKIT_HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    assert "redis://host:6379/0" in done.stdout
    assert url.startswith("unix") or "inside WSL" in done.stdout
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("command", ["worker", "up", "down", "jobs", "doctor"])
def test_commands_that_need_a_server_or_workers_are_one_sentence(command: str) -> None:
    done = on_windows("-m", "jobkit", command)
    assert done.returncode == 1
    said = done.stderr or done.stdout
    assert "on Windows jobkit is a client only" in said
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr


def test_a_worker_for_a_redis_elsewhere_is_refused_too(site: dict[str, str]) -> None:
    done = on_windows("-m", "jobkit", "worker", **site)
    assert (done.returncode, done.stdout) == (1, "")
    assert "inside WSL" in done.stderr


def test_commands_print_in_an_encoding_without_their_signs(site: dict[str, str]) -> None:
    """Python writes to files and pipes on Windows in cp1252."""
    with jobkit.connect(**{name.removeprefix("JOBKIT_").lower(): value for name, value in site.items()}) as kit:
        job = kit.options(tags=["✓ 日本"]).submit(print, "✓ 日本 █")
        job.wait(60)
    submit = "submit estimate_pi points=2000000 --wait"
    for command in ("jobs", f"show {job.id}", f"logs {job.id}", f"retry {job.id}", submit, "export"):
        done = on_windows("-m", "jobkit", *command.split(), PYTHONIOENCODING="cp1252", **site)
        assert done.returncode == 0, (command, done.stdout, done.stderr)


@pytest.mark.nightly
@pytest.mark.browser
def test_the_dashboard_serves_its_own_user_by_the_printed_address(
    site: dict[str, str], window: Window, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    code = "import sys, tests.windows.pretend; from panel.command import main; sys.argv[0] = 'panel'; main()"
    variables = environment(**site, JOBKIT_HOME=str(tmp_path / "home"), PYTHONIOENCODING="cp1252")
    argv = [sys.executable, "-c", code, "serve", str(ROOT / "dashboard.py"), "--port", "0", "--plugins", "jobkit.http"]
    with log.open("wb") as output:
        server = subprocess.Popen(argv, cwd=ROOT, env=variables, stdout=output, stderr=output)
    try:
        found = wait_until(lambda: re.search(r"open (http\S+token=\S+)", log.read_text()), what="the address")
        page = window.open(found[1])
        page.wait_for_selector(".jk-table")
        with jobkit.connect(**{name.removeprefix("JOBKIT_").lower(): value for name, value in site.items()}) as kit:
            job = kit.submit(len, "abc")
        page.wait_for_selector(f".jk-table .row[data-id='{job.id}'][data-face=succeeded]")
        page.click(f".jk-table .row[data-id='{job.id}']")
        page.wait_for_selector(".jk-card:has-text('Result')")
        window.close()
    finally:
        server.terminate()
        server.wait(60)
    assert "Traceback" not in log.read_text()


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_the_tests_of_clients_pass() -> None:
    names = "batch failures finding first_job hooks keys magic once results steering stopping sweep watching"
    files = [f"tests/client/test_{name}.py" for name in names.split()]
    needs_more = "sync or queue_are_called or has_a_form"  # a private server, which Windows does not run
    argv = [sys.executable, "-m", "pytest", "-p", "tests.windows.pretend", "-q", "-n", "0", *files]
    argv += ["-k", f"not ({needs_more})"]
    variables = {**os.environ, PROGRAM: find_server()}
    done = subprocess.run(argv, cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
