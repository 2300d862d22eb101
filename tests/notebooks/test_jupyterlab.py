"""A real JupyterLab in a real browser: the card is live while the kernel is idle, then static, also after a restart."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest

from jobkit.embedded import shutdown
from jobkit.settings import Settings
from tests.support import NO_FORMAT_PARSER, environment, free_port, listens, wait_until

from .conftest import KERNELS, notebook_of, shot

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, *KERNELS]

CELLS = (
    "import jobkit, time\nkit = jobkit.connect()",
    "def walk(n, pause):\n"
    "    import time\n"
    "    for k in jobkit.progress(range(n), desc='steps'):\n"
    "        print('step', k); time.sleep(pause)\n"
    "    return {'walked': n}",
    "job = kit.submit(walk, 60, 0.2)\njob",
    "endless = kit.submit(walk, 10_000, 0.1)\nendless",
    "time.sleep(3)  # a cell that blocks the kernel",
)


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[tuple[str, Path]]:
    """`(url, folder)` of a JupyterLab with one notebook and a new home."""
    folder = Path(tempfile.mkdtemp(prefix="jk-", dir="/tmp"))
    nbformat.write(notebook_of(getattr(request, "param", CELLS)), folder / "walk.ipynb")
    port = free_port()
    own = {name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    process = subprocess.Popen(
        [sys.executable, "-c", f"{NO_FORMAT_PARSER}; from jupyterlab.labapp import main; main()", 
         "--no-browser", "--allow-root", f"--port={port}", "--ServerApp.ip=127.0.0.1",
         "--IdentityProvider.token=", "--ServerApp.password=", "--LabApp.expose_app_in_browser=True",
         "--LabApp.news_url=", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}"],
        env=environment(JOBKIT_HOME=str(folder / "home"), **own),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: listens(port), what="JupyterLab to answer")
        yield f"http://127.0.0.1:{port}/lab/tree/walk.ipynb", folder
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:  # it waits for kernels; a fixture of all tests finds remaining processes
            process.kill()
            process.wait()
        shutdown(Settings(home=folder / "home"), now=True)
        shutil.rmtree(folder, ignore_errors=True)


def command(page: Page, name: str) -> None:
    page.wait_for_function("() => window.jupyterapp && window.jupyterapp.restored")
    page.evaluate("name => { window.jupyterapp.commands.execute(name) }", name)


def start_kernel(page: Page) -> None:
    """Wait for the notebook's kernel; if JupyterLab asks which one, take its suggestion."""
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    offered = page.locator(".jp-Dialog button.jp-mod-accept")
    idle = page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")
    offered.or_(idle).first.wait_for()
    page.wait_for_timeout(1_000)  # the dialog appears after the indicator, or not at all
    if offered.count():
        offered.click()
    page.wait_for_function(
        "() => { const p = window.jupyterapp.shell.currentWidget;"
        " return p && p.sessionContext && p.sessionContext.session && p.sessionContext.session.kernel"
        " && p.sessionContext.session.kernel.status === 'idle'; }"
    )


def done_steps(card: Any) -> int:
    found = re.search(r"(\d+) / 60", card.inner_text())
    return int(found.group(1)) if found else -1


def outputs_of(saved: Path) -> str:
    """Return the outputs of a saved notebook as text; "" while it is being written."""
    try:
        return json.dumps([cell.get("outputs") for cell in json.loads(saved.read_text())["cells"]])
    except ValueError:
        return ""


def test_a_card_is_live_in_jupyterlab_and_static_when_its_job_has_ended(lab: tuple[str, Path], page: Page) -> None:
    url, folder = lab
    page.goto(url)
    start_kernel(page)
    command(page, "notebook:run-all-cells")

    # Two live cards, which move while a cell blocks the kernel and afterwards.
    page.wait_for_selector(".jk-card >> nth=1")
    first = page.locator(".jk-card").first
    early = wait_until(lambda: max(0, done_steps(first)), what="the first steps on the card")
    wait_until(lambda: done_steps(first) > early, what="the bar to move")
    assert "step " in first.inner_text()
    shot(page, "lab-live")

    # At the end the card becomes plain HTML, which needs no kernel.
    page.wait_for_function("() => document.querySelectorAll('.jk-card').length === 1")
    outputs = page.locator(".jp-OutputArea-output")
    ended = outputs.filter(has_text="walked").first
    assert "Succeeded" in ended.inner_text()

    # Cancel the endless job from its card.
    page.locator(".jk-card").get_by_role("button", name="Cancel").click()
    page.locator(".jk-card").get_by_role("button", name="Cancel job").click()
    page.wait_for_function("() => document.querySelectorAll('.jk-card').length === 0")
    assert outputs.filter(has_text="Cancelled").count() == 1
    shot(page, "lab-ended")

    # Saved, reloaded, kernel restarted: still there, in a small file.
    command(page, "docmanager:save")
    saved = folder / "walk.ipynb"
    wait_until(lambda: "walked" in outputs_of(saved), what="the notebook to be saved with its outputs")
    assert "widget-view" not in outputs_of(saved)
    assert saved.stat().st_size < 60_000
    page.reload()
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.locator(".jp-OutputArea-output").filter(has_text="walked").first.wait_for()
    assert page.locator(".jp-OutputArea-output").filter(has_text="Error displaying widget").count() == 0


BATCH_CELLS = (
    "%load_ext jobkit\nimport jobkit, time\nkit = jobkit.connect()\nfactor = 3",
    "@jobkit.task\n"
    "def train(n: int = 5, lr: float = 0.1, fails: bool = False):\n"
    '    """Train a model.\n\n    Args:\n        n: how many rounds\n        lr: step size\n    """\n'
    "    import time\n"
    "    time.sleep(0.3)\n"
    "    if fails: raise ValueError('it failed')\n"
    "    return {'loss': n * lr, 'rounds': n}",
    "batch = train.sweep(n=list(range(1, 11)), lr=[0.1, 0.2, 0.4])\nbatch",
    "train",
    "%%job tripled tags=demo\n# Triple it\nprint('in the job')\nfactor * 14",
    "endless = kit.map(time.sleep, [0.01, 300, 300, 300])\nendless",
    "kit.jobs(limit=5)",
)


@pytest.mark.nightly
@pytest.mark.parametrize("lab", [BATCH_CELLS], indirect=True, ids=["batch"])
def test_batch_form_and_cell_magic_work_in_jupyterlab(lab: tuple[str, Path], page: Page) -> None:
    url, folder = lab
    page.set_viewport_size({"width": 1200, "height": 3400})
    page.goto(url)
    start_kernel(page)
    command(page, "notebook:run-all-cells")

    # A sweep: live, then plain HTML with its plot, whose table sorts without a kernel.
    outputs = page.locator(".jp-OutputArea-output")
    sweep = outputs.filter(has_text="30 / 30")
    sweep.first.wait_for()
    shot(page, "lab-batch-live")
    page.locator("[class^=jkb-]:has-text('30 / 30')").first.wait_for()
    saved = page.locator("[class^=jkb-]:has-text('30 / 30')").first
    assert saved.locator("circle").count() == 30
    head = saved.get_by_role("columnheader", name="loss")
    head.click()
    head.click()
    losses = [float(text.removeprefix("★ ")) for text in saved.locator("tbody tr td:nth-child(4)").all_inner_texts()]
    assert losses == sorted(losses, reverse=True)
    saved.get_by_label("Filter the rows").fill("0.4")
    assert saved.locator("tbody tr:visible").count() < 30

    # A task is its form: a refusal beside the field, then a job whose card appears below.
    form = page.locator(".jk-form")
    form.locator("[data-name=n] input").first.fill("x")
    form.get_by_role("button", name="Submit").click()
    form.locator("[data-name=n] .message:has-text('whole number')").wait_for()
    form.locator("[data-name=n] input").first.fill("7")
    form.get_by_role("button", name="Submit").click()
    outputs.filter(has_text="rounds").filter(has_text="n=7").first.wait_for()

    # A cell as a job.
    outputs.filter(has_text="Triple it").filter(has_text="Succeeded").first.wait_for()
    assert "42" in outputs.filter(has_text="Triple it").first.inner_text()

    # A running batch is cancelled from its card.
    card = page.locator(".jk-batch").filter(has_text="sleep").first
    card.locator(".below:has-text('1 / 4')").wait_for()
    shot(page, "lab-batch")
    page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    page.wait_for_selector("#jupyterlab-splash", state="detached")
    shot(page, "lab-batch-dark")
    card.get_by_role("button", name="Cancel the rest").click()
    card.get_by_role("button", name="Cancel 3 jobs").click()
    page.locator("[class^=jkb-]:has-text('3 cancelled')").first.wait_for()

    command(page, "docmanager:save")
    wait_until(lambda: "3 cancelled" in outputs_of(folder / "walk.ipynb"), what="the notebook to be saved")
    assert (folder / "walk.ipynb").stat().st_size < 120_000


LONG_CELLS = (*CELLS[:2], "job = kit.submit(walk, 10_000, 0.1)\njob", "jobkit.task(walk)")


@pytest.mark.parametrize("lab", [LONG_CELLS], indirect=True, ids=["long"])
def test_a_card_without_a_kernel_says_so_and_a_saved_notebook_shows_the_last_state(
    lab: tuple[str, Path], page: Page
) -> None:
    url, folder = lab
    page.goto(url)
    start_kernel(page)
    command(page, "notebook:run-all-cells")
    card = page.locator(".jk-card")
    saved_card = page.locator(".jp-OutputArea-output").filter(has_text="when this was saved")
    wait_until(lambda: re.search(r"\d / 10,000", card.inner_text()) if card.count() else None, what="the card to move")
    saved_card.wait_for(state="hidden")  # it is behind the live card
    wait_until(lambda: "step " in saved_card.text_content(), what="the saved card to be renewed")
    shot(page, "lab-running")
    command(page, "docmanager:save")
    saved = folder / "walk.ipynb"
    wait_until(lambda: "when this was saved" in outputs_of(saved), what="the notebook to be saved while the job runs")

    page.evaluate("() => { window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart() }")

    gone = card.locator(".away:has-text('The kernel does not answer: it has ended or was restarted')")
    code = gone.locator("code:has-text('jobkit.connect().get(')")
    # A card that Jupyter has drawn anew meanwhile never heard the kernel: the saved one behind it is shown.
    wait_until(lambda: code.is_visible() or saved_card.is_visible(), what="the word of the kernel's end")
    assert saved_card.is_visible() or card.get_by_role("button", name="Cancel").is_disabled()
    form = page.locator(".jk-form")
    form.locator(".away:has-text('Run this cell again to get a form that submits')").wait_for()
    assert form.get_by_role("button", name="Submit").is_disabled()
    shot(page, "lab-kernel-gone")

    # The saved notebook in another page: trusted, and as another user gets it.
    copy = nbformat.read(saved, 4)
    copy.cells.append(nbformat.v4.new_markdown_cell("This cell is not signed."))
    nbformat.write(copy, folder / "copy.ipynb")
    for name in ("walk", "copy"):
        page.goto(url.replace("/lab/", f"/lab/workspaces/{name}/").replace("walk.ipynb", f"{name}.ipynb"))
        start_kernel(page)
        assert page.locator(".jp-MarkdownOutput:has-text('is not signed')").count() == (name == "copy")
        saved_card.wait_for()
        page.wait_for_function("() => !document.body.innerText.includes('Loading widget')")
        assert re.search(r"Running[\s\S]*\d+ / 10,000[\s\S]*jobkit\.connect\(\)\.get\('", saved_card.inner_text())
        assert "Error displaying widget" not in page.locator(".jp-Notebook").inner_text()
        assert card.count() == 0
        shot(page, f"lab-{name}-opened-again")


WIDGET_CELLS = (
    *CELLS[:2],
    "from ipywidgets import HBox, VBox\n"
    "job, batch = kit.submit(walk, 10_000, 0.1), kit.map(time.sleep, [0.1, 300])\n"
    "box = HBox([job.widget(), batch.widget()])\nbox",
    "@jobkit.task\ndef double(n: int = 5):\n    return 2 * n\nform = double.widget()\nform",
)
FOLLOWED = (
    "[name for name, each in (('job', box.children[0]), ('batch', box.children[1])) if each._control is not None]"
)


@pytest.mark.nightly
@pytest.mark.parametrize("lab", [WIDGET_CELLS], indirect=True, ids=["widgets"])
def test_widgets_in_other_widgets_are_live_and_rest_when_their_parent_closes(lab: tuple[str, Path], page: Page) -> None:
    page.goto(lab[0])
    start_kernel(page)
    command(page, "notebook:run-all-cells")
    card, batch, form = page.locator(".jk-card").first, page.locator(".jk-batch"), page.locator(".jk-form")
    wait_until(lambda: re.search(r"\d / 10,000", card.inner_text()) if card.count() else None, what="the card to move")
    batch.locator(".below:has-text('1 / 2')").wait_for()
    assert abs(card.bounding_box()["width"] - batch.bounding_box()["width"]) < 40  # side by side
    assert card.bounding_box()["y"] == batch.bounding_box()["y"]
    form.wait_for()
    shot(page, "lab-widgets")
    page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    page.wait_for_selector("#jupyterlab-splash", state="detached")
    shot(page, "lab-widgets-dark")

    assert evaluated(page, FOLLOWED) == "['job', 'batch']"
    evaluated(page, "box.close()")
    batch.wait_for(state="detached")
    wait_until(lambda: evaluated(page, FOLLOWED) == "[]", what="the widgets to rest")

    evaluated(page, "batch.cancel()")  # its job has the second of two slots
    form.locator("[data-name=n] input").first.fill("21")
    form.get_by_role("button", name="Submit").click()
    page.locator(".jk-card:has-text('n=21')").locator(".result:has-text('42')").wait_for()
    shot(page, "lab-widgets-form")


def evaluated(page: Page, code: str) -> str:
    """Return the text of an expression in the kernel of the notebook."""
    return page.evaluate(
        """async code => {
            const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
            const reply = await kernel.requestExecute({code: '', user_expressions: {it: code}, silent: true}).done;
            return reply.content.user_expressions.it.data['text/plain'];
        }""",
        code,
    )


PANEL_CELLS = (
    "import jobkit, threading, panel as pn\npn.extension(inline=True)\nkit = jobkit.connect()",
    CELLS[1],
    "slider = pn.widgets.IntSlider(name='n', start=1, end=30)\n"
    "jobs = [kit.submit(walk, 20, 0.1) for _ in range(3)]\n"
    "column = pn.Column(slider, pn.bind(lambda n: f'bound {n}', slider), "
    "pn.bind(lambda state: f'state {state}', jobs[0].param.state), jobs[0].param.completed.rx(), *jobs)\n"
    "def change():\n"
    "    import time\n"
    "    while not slider._models: time.sleep(0.001)\n"
    "    for n in range(2, 31):\n"
    "        slider.value = n; time.sleep(0.01)  # ends before the browser shows it\n"
    "threading.Thread(target=change).start()\n"
    "column",
)


def with_comms(name: str) -> tuple[str, ...]:
    """Return cells of a notebook in which Panel talks to its front end as in VS Code, or by ipywidgets."""
    begin = f"import jobkit, panel as pn\npn.extension(inline=True, comms={name!r})\nkit = jobkit.connect()"
    return begin, CELLS[1], "job = kit.submit(walk, 20, 0.1)\npn.Column(job, job.param.completed.rx())"


@pytest.mark.nightly
@pytest.mark.parametrize(
    "lab", [with_comms("ipywidgets"), with_comms("vscode")], indirect=True, ids=["ipywidgets", "vscode"]
)
def test_a_card_is_live_by_other_ways_of_panel_to_its_front_end(lab: tuple[str, Path], page: Page) -> None:
    pytest.importorskip("jupyter_bokeh")
    page.goto(lab[0])
    start_kernel(page)
    command(page, "notebook:run-all-cells")

    page.locator(".jk-card .chip:has-text('Running')").wait_for()
    page.locator(".jk-card .chip:has-text('Succeeded')").wait_for()
    page.locator(".jk-card .result:has-text('walked')").wait_for()
    page.get_by_text("20", exact=True).first.wait_for()


@pytest.mark.nightly
@pytest.mark.parametrize("lab", [PANEL_CELLS], indirect=True, ids=["panel"])
def test_cards_and_a_slider_in_a_layout_of_panel_reach_their_last_state(lab: tuple[str, Path], page: Page) -> None:
    errors: list[str] = []
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(lab[0])
    start_kernel(page)
    command(page, "notebook:run-all-cells")

    page.locator(".jk-card .chip:has-text('Succeeded')").nth(2).wait_for()
    page.locator(".bk-slider-title:has-text('30')").wait_for()
    for text in ("bound 30", "state succeeded", "20"):
        page.get_by_text(text, exact=True).first.wait_for()
    page.locator(".jk-card .result:has-text('walked')").nth(2).wait_for()
    shot(page, "lab-panel")

    # Without a network, sheets of Panel's own cannot be loaded.
    assert [each for each in errors if "net::ERR" not in each] == []
