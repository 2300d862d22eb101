"""Scripts and requests of the pages, as they stand there: in a browser, and with curl, at the API."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import jobkit
from jobkit import demo
from jobkit.client.kit import Kit
from jobkit.http.auth.access import Tokens
from jobkit.tasks.registry import registry
from tests.docs.reading import PAGES, blocks, fences
from tests.features.questions.test_http import Cut
from tests.http.site import Site
from tests.ui.conftest import Window, browser, window
from tests.ui.stage import Stage

__all__ = ["browser", "window"]

#: What each script has around it in a page: `seen[PAGE]` gets the states that it shows.
AROUND = {
    "docs/http.md": """
        const draw = () => seen["docs/http.md"].push(job.state);
        SCRIPT
    """,
    "docs/from-messenger.md": """
        const show = ({ state }) => seen["docs/from-messenger.md"].push(state);
        SCRIPT
    """,
    # A component that is drawn again with each state that is set, and an effect that runs at its first drawing.
    "docs/recipes/web-apps.md": """
        let kept, end;
        const setState = (next) => { kept = next instanceof Function ? next(kept) : next; draw(); };
        const useState = (first) => [kept ??= first, setState];
        const useEffect = (effect) => { end ??= effect(); };
        const draw = () => { seen["docs/recipes/web-apps.md"].push(useJob(job.events).state); };
        SCRIPT
        draw();
        window.unmount = () => end();
    """,
}

_SUBMIT = """async () => {
    window.seen = {};
    const headers = { "Content-Type": "application/json" };
    const answer = await fetch("/api/jobs", { method: "POST", headers, body: JSON.stringify({ task: "double" }) });
    return await answer.json();
}"""


@pytest.mark.browser
def test_scripts_of_the_pages_follow_a_job_to_its_end(
    serve: Callable[..., Site], stage: Stage, window: Window, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text("<!doctype html><title>a page</title><link rel=icon href=data:,>")
    page = window.open(f"{serve(web=str(tmp_path)).url}/examples/web/")
    job = page.evaluate(_SUBMIT)

    for name, around in AROUND.items():
        (script,) = blocks(name, "js")
        code = around.replace("SCRIPT", script)
        page.evaluate(f"(given) => {{ const job = {{ ...given }}; seen['{name}'] = []; {code} }}", job)
    shows_all = "(state) => Object.values(seen).every((states) => states.at(-1) === state)"
    page.wait_for_function(shows_all, arg="queued")
    stage.start(job["id"])
    page.wait_for_function(shows_all, arg="running")
    stage.succeed(job["id"])
    page.wait_for_function(shows_all, arg="succeeded")
    page.evaluate("unmount()")


def test_each_script_of_a_page_is_run() -> None:
    pages = {fence.page for page in PAGES for fence in fences(page) if fence.language == "js"}

    assert pages == AROUND.keys() | {"docs/ja/from-messenger.md"}  # see test_from_messenger.py


#: What pages call the server of theirs.
_SERVER = re.compile(r"localhost:5006|https://jobs\.example\b|\$URL\b")


def requests() -> Iterator[tuple[str, str]]:
    """Yield page and command of each request with curl to a server of jobkit."""
    for page in PAGES:
        for fence in fences(page):
            for line in fence.text.splitlines() if fence.language in ("console", "bash") else ():
                if _SERVER.search(line) and (match := re.match(r"(?:\$ )?(curl .*)", line)):
                    yield fence.page, match[1]


@pytest.fixture
def job(kit: Kit, stage: Stage) -> str:
    """A job that has ended, with a line and a result. The tasks that pages name exist."""
    registry._tasks["estimate_pi"] = demo.estimate_pi  # type: ignore[assignment]
    jobkit.task(_report, name="report")  # not for all tests that this process runs
    made = stage.submit()
    stage.start(made)
    stage.log(made, "the loss is nan")
    stage.succeed(made, preview={"type": "int", "text": "42", "json": 42})
    return made


def _report(year: int = 2026) -> str:
    """Build the report of a year."""
    return f"report of {year}"


@pytest.mark.parametrize(("page", "command"), list(requests()))
def test_a_request_of_the_pages_is_answered(
    page: str, command: str, serve: Callable[..., Site], kit: Kit, stage: Stage, job: str
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    token, _ = Tokens(kit.settings.login_secret, kit.settings.namespace).make(["view"], lifetime_s=60)
    if "/question" in command:
        job = stage.submit()
        stage.start(job)
        stage.ask(job, Cut, "Which one is noise?")
    said = re.sub("5f0c…|5f0c1234abcd5678|ID", job, _SERVER.sub(serve().url, command)).replace("$TOKEN", token)

    done = subprocess.run(
        ["bash", "-c", said.replace("curl ", "curl --silent --show-error --fail-with-body ", 1)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout
