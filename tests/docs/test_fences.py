"""Each block of the pages is in a language that a test checks, and so is each file beside the pages.

Blocks of Python and HTML are run elsewhere, see `ELSEWHERE`. Here the others are given to a program that reads them: a
shell, node, Redis, HAProxy. A block of text is a drawing, or output of a test that a comment before it names.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import yaml

import jobkit
from jobkit.features.pools.spec import pool_spec
from jobkit.settings import Settings
from tests.docs.commands import check_command, commands_in
from tests.docs.reading import PAGES, Fence, blocks, fences
from tests.store.server import find_server
from tests.support import ROOT, environment, free_port, make_certificates, wait_until

#: Languages whose blocks are run, and directives that the build of the site checks.
ELSEWHERE = {
    "python": "tests/docs/test_blocks.py",
    "html": "tests/http/test_from_messenger.py",
    **dict.fromkeys(("lua", "py"), "tests/docs/test_features.py"),
    **dict.fromkeys(
        ("{eval-rst}", "{glossary}", "{jobkit-table}", "{rst-class}", "{toctree}", "{include}", "{literalinclude}"),
        "tests/test_docs.py",
    ),
}

#: Files beside the pages.
FILES = {
    "docs/recipes/jobkit.service": "tests/test_docs.py",
    "docs/team/Dockerfile": __file__,
    "docs/team/Dockerfile.worker": __file__,
    "docs/team/alerts.yaml": "tests/test_docs.py",
    "docs/team/compose.yaml": "tests/test_docs.py",
    "docs/team/grafana.json": "tests/test_docs.py",
    "docs/team/haproxy.cfg": "tests/security/test_proxies.py",
    "docs/team/jobkit-dashboard.service": "tests/test_docs.py",
    "docs/team/jobkit-worker@.service": "tests/test_docs.py",
    "docs/team/jobkit.env": __file__,
    "docs/team/keda.yaml": "tests/test_docs.py",
    "docs/team/kubernetes.yaml": "tests/test_docs.py",
    "docs/team/nginx-prefix.conf": "tests/security/test_proxies.py",
    "docs/team/nginx.conf": "tests/security/test_proxies.py",
    "docs/team/worker.txt": "tests/test_installed.py",
}


def checked_by(*command: str | Path, text: str | None = None) -> None:
    """Run a program on a block. Raises AssertionError with its words if it refuses."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    if (program := shutil.which(str(command[0]), path=path)) is None:
        pytest.skip(f"no {command[0]} on this machine")
    done = subprocess.run([program, *command[1:]], input=text, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr or done.stdout


def check_shell(text: str, folder: Path) -> None:
    """Check the syntax; `tests/docs/test_names.py` checks the commands of jobkit."""
    checked_by("bash", "-n", text=text)


def check_console(text: str, folder: Path) -> None:
    """Check the lines behind a prompt; the others are output."""
    commands = re.findall(r"(?m)^(?:\w*\$|#) (.+)$", text)
    assert commands, "no line has a prompt"
    check_shell("\n".join(commands), folder)


def check_script(text: str, folder: Path) -> None:
    """Check the syntax; `tests/http/test_scripts.py` runs it."""
    file = folder / "script.mjs"
    file.write_text(text, "utf-8")
    checked_by("node", "--check", file)


def check_make(text: str, folder: Path) -> None:
    checked_by("make", "--dry-run", "--always-make", "-f", "-", "-o", "data.csv", "-o", "pipeline.py", text=text)


def check_toml(text: str, folder: Path) -> None:
    """Load it as settings, which refuse what they do not know."""
    assert tomllib.loads(text)["tool"].keys() == {"jobkit"}
    (folder / "pyproject.toml").write_text(text, "utf-8")
    for name, options in Settings.load({}, start=folder).pools.items():
        pool_spec(name, **options)


def check_variables(text: str, folder: Path) -> None:
    """Load the lines as a service manager does, which knows no comment behind a value."""
    lines = [line.partition("=") for line in text.splitlines() if line and not line.startswith("#")]
    assert not any(" #" in value for _, _, value in lines)
    given = {name.removeprefix("JOBKIT_").lower(): value for name, _, value in lines}
    assert given.keys() <= Settings.__dataclass_fields__.keys()
    Settings.load({name: value for name, _, value in lines}, start=folder).checked()


def check_yaml(text: str, folder: Path) -> None:
    """Read it, with the commands in it."""
    assert isinstance(yaml.safe_load(text), dict)
    for words in commands_in(re.sub(r"(?m)^ *cmd: ", "", text)):
        check_command(words)


def check_text(text: str, folder: Path) -> None:
    """Give a configuration to its program. Raises AssertionError for what has none."""
    if text.startswith("# haproxy.cfg"):
        file = folder / "haproxy.cfg"
        file.write_text(text)
        checked_by("haproxy", "-c", "-f", file)
        return
    assert text.startswith("# redis.conf"), "say in a comment what it is: a drawing, or output of a test"
    with redis_with(text, folder):
        pass


@contextlib.contextmanager
def redis_with(config: str, folder: Path) -> Iterator[int]:
    """Start a server with a `redis.conf`, its certificates and ports replaced; yield its port for TLS.

    Raises AssertionError with its words if it does not start.
    """
    make_certificates(folder)
    port, file, socket_file = free_port(), folder / "redis.conf", Path(tempfile.mkdtemp(prefix="jk-")) / "s"
    config = config.replace("/etc/redis/", f"{folder}/").replace("tls-port 6379", f"tls-port {port}")
    file.write_text(f"port 0\n{config}")
    command = [find_server(), str(file), "--unixsocket", str(socket_file), "--dir", str(folder), "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_until(lambda: socket_file.exists() or process.poll() is not None, what="the server")
        said = "" if process.poll() is None else process.communicate()[0]
        if "tls" in said:
            pytest.skip(f"this server does not speak TLS: {said[-300:]}")
        assert process.poll() is None, said[-500:]
        yield port
    finally:
        process.kill()
        process.communicate()
        shutil.rmtree(socket_file.parent)


CHECKS: dict[str, Callable[[str, Path], None]] = {
    "bash": check_shell,
    "console": check_console,
    "ini": check_variables,
    "js": check_script,
    "make": check_make,
    "text": check_text,
    "toml": check_toml,
    "yaml": check_yaml,
}

#: Comments before a block of text that no program reads.
_TOLD = re.compile(r"drawing|(?:output of|run by) (tests/[\w/]+\.py)")


def is_read(fence: Fence) -> bool:
    """Return True for a block that a program here has to accept."""
    return fence.language not in ELSEWHERE and not (fence.language == "text" and _TOLD.fullmatch(fence.comment))


@pytest.mark.parametrize("fence", [fence for page in PAGES for fence in fences(page) if is_read(fence)], ids=str)
def test_a_program_that_reads_a_block_accepts_it(fence: Fence, tmp_path: Path) -> None:
    assert fence.language in CHECKS, f"no test checks blocks in {fence.language!r}"
    CHECKS[fence.language](fence.text, tmp_path)


def test_redis_for_a_team_serves_its_user_alone_from_other_machines(tmp_path: Path) -> None:
    config = "".join(text for text in blocks("docs/reliability.md", "text") if text.startswith("# redis.conf"))
    with redis_with(config, tmp_path) as port:
        with jobkit.connect(
            f"rediss://jobkit:PASSWORD@localhost:{port}/0?ssl_ca_certs={tmp_path}/ca.crt", secret="s"
        ) as kit:
            assert kit.submit(len, "abc").state == "queued"

        tls = {"port": port, "ssl": True, "ssl_ca_certs": f"{tmp_path}/ca.crt", "ssl_check_hostname": False}
        with redis.Redis(host=_own_address(), username="jobkit", password="PASSWORD", **tls) as client:
            assert client.ping()
        with redis.Redis(host=_own_address(), **tls) as client, pytest.raises(redis.AuthenticationError):
            client.ping()


def _own_address() -> str:
    """Return an address of this machine that is not loopback, if it has one; nothing is sent."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return "localhost"


def test_each_test_that_checks_a_language_or_a_file_exists() -> None:
    found = [fence for page in PAGES for fence in fences(page)]
    told = [match[1] for fence in found if (match := _TOLD.fullmatch(fence.comment)) and match[1]]

    assert {fence.language for fence in found} == {*ELSEWHERE, *CHECKS}
    assert all((ROOT / path).is_file() for path in (*ELSEWHERE.values(), *FILES.values(), *told))
    for file, test in FILES.items():
        assert Path(file).suffix == ".service" or Path(file).name in (ROOT / test).read_text("utf-8"), file


def test_each_file_beside_the_pages_is_one_that_a_test_checks() -> None:
    made = ("_build", "_static", "notebooks")
    folders = [path for path in (ROOT / "docs").iterdir() if path.is_dir() and path.name not in made]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    others = (".md", ".pyc", ".webp", ".png", ".svg")

    assert {path.relative_to(ROOT).as_posix() for path in files if path.suffix not in others} == FILES.keys()


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.worker"])
def test_an_image_copies_files_that_exist_and_starts_a_command(name: str) -> None:
    steps = [line.split(" ", 1) for line in (ROOT / "docs/team" / name).read_text().splitlines() if line[0] != "#"]
    entry = yaml.safe_load(dict(steps)["ENTRYPOINT"])
    compose = yaml.safe_load((ROOT / "docs/team/compose.yaml").read_text())["services"]["worker"]["command"]

    assert [step for step, _ in steps[:2]] == ["FROM", "WORKDIR"]
    assert {step for step, _ in steps} <= {"FROM", "WORKDIR", "COPY", "RUN", "USER", "ENTRYPOINT"}
    assert {words.split()[0] for step, words in steps if step == "COPY"} <= {".", "worker.txt"}
    assert entry[0] == "jobkit"
    check_command([*entry[1:], *(compose if entry[1:] == [] else compose[1:])])
    for words in (words for step, words in steps if step == "RUN"):
        check_shell(words, Path())


def test_the_environment_of_services_is_read(tmp_path: Path) -> None:
    check_variables((ROOT / "docs/team/jobkit.env").read_text(), tmp_path)


@pytest.mark.nightly
def test_steps_of_pipelines_make_the_file_that_is_expected(tmp_path: Path) -> None:
    page = "docs/recipes/pipelines.md"
    (tmp_path / "pipeline.py").write_text(blocks(page, "python")[0])
    (tmp_path / "data.csv").write_text("1\n2\n")
    (tmp_path / "Makefile").write_text(blocks(page, "make")[0])
    (snakemake,) = re.findall(r'shell: "(.*)"', blocks(page, "text")[0])
    stage = yaml.safe_load(blocks(page, "yaml")[0])["stages"]["train"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = environment(JOBKIT_URL="sync://", JOBKIT_TASKS="pipeline", PYTHONPATH=str(tmp_path), PATH=path)

    for command in (snakemake.format(input="data.csv", output="model.txt"), stage["cmd"], "make model.txt"):
        subprocess.run(["bash", "-c", command], cwd=tmp_path, env=env, check=True, timeout=60)
        assert (tmp_path / "model.txt").read_text() == "2 rows\n"
        (tmp_path / "model.txt").unlink()
    assert stage["outs"] == ["model.txt"]
    assert all((tmp_path / name).exists() for name in stage["deps"])
