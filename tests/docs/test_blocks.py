"""Each block of Python, and each command about jobs, in README and documentation is run as it stands there."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import SkipTest

import pytest
from click.testing import CliRunner

import jobkit
from jobkit.cli import main
from tests.client.conftest import worker_of
from tests.docs.commands import commands_of
from tests.docs.reading import PAGES, granted, read, shown, write_notebook
from tests.store.server import Server
from tests.support import ROOT, wait_until

#: Queues that pages name.
QUEUES = ("default", "gpu", "high")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Redis with a worker; every address on a page means it. Pools are stored, but no worker of them starts."""
    server = Server()
    server.start()
    archive = str(tmp_path_factory.mktemp("archive"))
    settings = {"url": server.url, "secret": "of the pages", "archive": archive}
    options = [word for queue in QUEUES for word in ("-q", queue)]
    connect = jobkit.connect
    with pytest.MonkeyPatch.context() as patch, worker_of(settings, *options, "--resources", "gpu=1"):
        for name, value in settings.items():
            patch.setenv(f"JOBKIT_{name.upper()}", value)
        patch.setattr("jobkit.features.pools.kit.keep", lambda settings: None)
        patch.setattr(jobkit, "connect", lambda url=None, **given: connect(url) if url == "sync://" else connect())
        yield
    server.stop()


@pytest.fixture
def names(place: None, no_tasks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The namespace of a page, in a directory with a notebook. Afterwards no job, schedule or pool is left."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    write_notebook()
    names = granted()
    module = types.ModuleType("mytasks")
    vars(module).update(names)
    monkeypatch.setitem(sys.modules, "mytasks", module)
    yield names
    for found in tmp_path.glob("*.py"):
        sys.modules.pop(found.stem, None)
    kit = jobkit.connect()
    for schedule in kit.schedules():
        schedule.remove()
    jobs = list(kit.jobs(limit=10_000))
    for job in jobs:
        if not job.is_terminal:
            job.cancel()
    jobkit.wait(jobs, timeout=30)
    kit.delete([job.id for job in jobs])
    for pool in kit.pools():
        pool.remove(now=True)
    kit.close()


#: The translations have the code of their originals, see `tests/http/test_from_messenger.py`.
TO_RUN = [page for page in PAGES if page.parent.name != "ja" and any(shown(page))]


@pytest.mark.nightly
@pytest.mark.parametrize("page", [str(page.relative_to(ROOT)) for page in TO_RUN])
def test_the_blocks_of_a_page_run_in_their_order(page: str, names: dict[str, Any]) -> None:
    document = read(ROOT / page)
    document.namespace.update(names)

    for example in document:
        with suppress(SkipTest):
            example.evaluate()


#: Commands that serve until they are ended, need other machines or an engine, or find nothing here that is old enough.
#: `test_names.py` parses them, too. Commands of pipelines are run by `test_fences.py`.
ELSEWHERE = re.compile(
    r"(up|worker|dashboard|share|join|down|people|pools)\b|workers (stop|drain)|stats --watch|token --revoke"
    r"|failures drop .*--older"
    r"|submit (pipeline\.|estimate_pi)"
)


def meant(words: list[str], names: dict[str, Any]) -> str:
    """Return what an id in a command stands for: a batch, group of failures or job that it can be used for."""
    kit: jobkit.Kit = names["kit"]
    if words[0] in ("batches", "failures"):
        batch = kit.options(delay=600 * (words[1] == "cancel")).map(names["broken"], [0.1, 0.2])
        if words[1] != "cancel":
            batch.wait()
        return batch.id if words[0] == "batches" else str(kit.failures()[0].id)
    if words[0] == "answer":
        job = kit.submit(names["choose"], bool if words[-1] == "yes" else names["Cut"])
        wait_until(job.question, what="the question")
        return job.id
    if words[0] == "move":
        return kit.options(delay=600).submit(names["tidy"]).id
    job = kit.submit(names["report"])
    job.wait()
    return job.id


def to_run(page: Path) -> list[list[str]]:
    """Return the commands of a page that are run here."""
    return [words for words in commands_of(page) if not ELSEWHERE.match(" ".join(words))]


@pytest.mark.nightly
@pytest.mark.parametrize("page", [str(page.relative_to(ROOT)) for page in PAGES if to_run(page)])
def test_commands_of_a_page_run_in_their_order(page: str, names: dict[str, Any]) -> None:
    for words in to_run(ROOT / page):
        said = [meant(words, names) if re.fullmatch(r"[358]f[02]c\w*|ID", word) else word for word in words]
        done = CliRunner().invoke(main, said)
        assert done.exit_code == 0, f"jobkit {' '.join(words)}: {done.output}{done.exception}"
