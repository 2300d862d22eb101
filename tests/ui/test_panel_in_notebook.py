"""Outputs of Panel in a notebook, without one: the messages of all threads are applied to a twin of the document."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import panel as pn
import pytest
from bokeh.document import Document
from bokeh.protocol import Protocol
from bokeh.protocol.receiver import Receiver
from panel.models.comm_manager import CommManager

from jobkit.client.loop import background
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.component import FeedPage, Notice
from jobkit.ui.patch import NOTEBOOK_HOOKS, alone
from tests.support import PATIENCE_S, wait_until
from tests.ui.stage import Stage

#: Changes by each thread.
CHANGES = 60


class FakeComm:
    """Keeps what is sent, and lets other threads run meanwhile, as the kernel's comm does."""

    def __init__(self) -> None:
        self.id, self.sent, self._comm = "comm", list[Any](), cast("Any", None)

    def init(self, on_msg: object = None) -> None:
        self._comm = self

    def send(self, data: Any = None, metadata: Any = None, buffers: Any = ()) -> None:
        self.sent += [data] if data is not None else list(buffers)
        time.sleep(0)


class Output:
    """The output of a cell that shows `shown`."""

    def __init__(self, shown: Any) -> None:
        self.shown, self.document, self.comm = shown, Document(), FakeComm()
        self.root = shown._render_model(self.document, self.comm)
        shown._render_mimebundle(self.root, self.document, self.comm)
        self.twin = Document.from_json(self.document.to_json())
        (self.manager,) = self.document.select({"type": CommManager})

    def open(self) -> None:
        """The browser has opened the comm, and shows the output."""
        self.comm.init()
        self.draw()

    def draw(self) -> None:
        """The browser shows the output, and says so if it is asked."""
        self.come(self.manager, name="shown")

    def come(self, model: Any, **changes: object) -> None:
        """A browser has changed properties."""
        events = [
            {"kind": "ModelChanged", "model": {"id": model.id}, "attr": name, "new": value}
            for name, value in changes.items()
        ]
        message = {"header": {"msgtype": "PATCH-DOC", "msgid": "1"}, "metadata": {}, "content": {"events": events}}
        self.shown._on_msg(self.root.ref["id"], self.manager, {**message, "_buffers": None})

    async def apply(self) -> None:
        """Apply all messages, in order."""
        receiver, sent, self.comm.sent = Receiver(Protocol()), self.comm.sent, []
        for each in sent:
            message: Any = await receiver.consume(each)
            if message is not None:
                message.apply_to_document(self.twin)

    def same(self) -> None:
        """The twin shows what the document has."""
        for model in self.root.references():
            twin = self.twin.get_model_by_id(model.id)
            assert twin is not None, model
            for name in ("text", "value", "said"):
                assert getattr(twin, name, None) == getattr(model, name, None)


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def in_thread(do: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=do)
    thread.start()
    return thread


@pytest.mark.parametrize(("owner", "name"), [hook[:2] for hook in NOTEBOOK_HOOKS])
def test_panel_has_what_is_replaced_for_notebooks(owner: Any, name: str) -> None:
    assert hasattr(getattr(owner, name), "__wrapped__")


async def test_changes_of_several_threads_and_of_the_browser_reach_it_whole_and_in_order(
    eager_threads: None,
) -> None:
    slider, text, notice = pn.widgets.IntSlider(end=10_000), pn.pane.Markdown("0"), Notice("0")
    other, cell = pn.pane.Markdown("0"), pn.Column("first")
    output = Output(pn.Column(slider, text, notice, other, cell))
    output.open()
    slider_model = slider._models[output.root.ref["id"]][0]

    def panels() -> None:
        for n in range(CHANGES):
            text.object = f"text {n}"
            cell[0] = pn.pane.Markdown(f"cell {n}")

    def ours() -> None:
        for n in range(CHANGES):
            notice.param.update(said=f"said {n}")

    def others() -> None:
        for n in range(CHANGES):
            other.object = f"other {n}"

    threads = [in_thread(do) for do in (panels, ours, others)]
    for n in range(1, CHANGES):
        output.come(slider_model, value=n)
    for thread in threads:
        thread.join()

    await output.apply()
    assert slider.value == CHANGES - 1
    assert output.twin.get_model_by_id(notice._models[output.root.ref["id"]][0].id).data.said == f"said {CHANGES - 1}"
    output.twin.get_model_by_id(slider_model.id).value = CHANGES - 1  # the browser's own
    output.same()


async def test_changes_before_the_browser_has_connected_are_sent_when_it_does() -> None:
    text = pn.pane.Markdown("a")
    output = Output(pn.Column(text))
    thread = in_thread(lambda: text.param.update(object="b"))
    thread.join()
    text.object = "c"
    assert not output.comm.sent

    output.open()

    await output.apply()
    output.same()
    assert "c" in output.twin.get_model_by_id(text._models[output.root.ref["id"]][0].id).text


async def test_code_that_a_browser_has_called_may_wait_for_a_thread_that_changes_the_output() -> None:
    slider, text = pn.widgets.IntSlider(end=10), pn.pane.Markdown("a")
    output = Output(pn.Column(slider, text))
    output.open()
    done: list[bool] = []

    def change() -> None:
        with alone():
            done.append(True)
        text.object = "b"

    def called(_: object) -> None:
        thread = in_thread(change)
        thread.join()

    slider.param.watch(called, "value")

    output.come(slider._models[output.root.ref["id"]][0], value=3)

    await output.apply()
    assert (slider.value, done) == (3, [True])
    assert "b" in output.twin.get_model_by_id(text._models[output.root.ref["id"]][0].id).text


async def test_a_message_of_the_browser_drops_no_change_that_waits() -> None:
    slider, cell = pn.widgets.IntSlider(end=10), pn.Column("a")
    output = Output(pn.Column(slider, cell))
    cell[0] = pn.pane.Markdown("b")  # the browser has not connected yet, and does not know the new model

    output.come(slider._models[output.root.ref["id"]][0], value=3)
    output.open()

    assert [each for each in output.comm.sent if "&lt;p&gt;b" in str(each)]
    await output.apply()
    assert "b" in output.twin.get_model_by_id(cell[0]._models[output.root.ref["id"]][0].id).text


async def test_changes_wait_until_the_browser_answers_that_it_shows_the_output() -> None:
    text = pn.pane.Markdown("a")
    output = Output(pn.Column(text))
    output.comm.init()
    text.object = "b"

    wait = [json.loads(each)["events"] for each in output.comm.sent if "events" in each]
    assert [[event["attr"] for event in events] for events in wait] == [["timeout"]]  # the question alone
    (answer,) = output.manager.js_property_callbacks["change:timeout"]
    assert getattr(answer, "code", "") == "cb_obj.name = 'shown'"
    output.comm.sent.clear()  # the browser drops what comes too early
    output.draw()

    await output.apply()
    output.same()
    assert "b" in output.twin.get_model_by_id(text._models[output.root.ref["id"]][0].id).text


def test_a_page_takes_none_of_its_texts_for_the_browsers(stage: Stage) -> None:
    class Page(FeedPage):
        MODULE = "notice"

    page = Page(stage.kit, picture="new")
    output = Output(page)
    output.open()

    output.come(output.root.data, picture="old", request="{}")

    assert (page.picture, page.request) == ("new", "{}")


def test_jobkits_loop_does_not_wait_for_what_a_card_calls_outside_a_session() -> None:
    bridge, free, ended = SessionBridge(), threading.Event(), list[bool]()

    async def push() -> None:
        bridge.push(lambda: ended.append(free.wait(PATIENCE_S)))

    background.call(push())
    free.set()

    wait_until(lambda: ended, what="the function")
    assert ended == [True]
