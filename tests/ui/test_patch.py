"""Private names of Panel and Bokeh: this fails when a release changes one, and pages go on without them."""

from __future__ import annotations

import asyncio
import inspect
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import panel as pn
import pytest
from bokeh.core.types import ID
from bokeh.document import Document
from bokeh.models.widgets.markups import Div
from bokeh.protocol import Protocol
from bokeh.server.connection import ServerConnection
from bokeh.server.session import ServerSession
from bokeh.server.views.ws import WSHandler
from panel.custom import JSComponent
from panel.io import document as panel_document

from jobkit.ui import patch
from jobkit.ui.app.header import Nav
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.panel_server import HOOKS
from tests.support import until
from tests.ui.conftest import Serve
from tests.ui.stage import Stage

UI = Path(patch.__file__).parent

#: Parameters of what jobkit wraps.
SIGNATURES = {
    "write": ["self", "chunk"],
    "get": ["self", "path", "include_body"],
    "create_session_if_needed": ["self", "session_id", "request", "token"],
    "get_session": ["self"],
    "head": ["self", "args", "kwargs"],
    "prepare": ["self"],
    "write_error": ["self", "status_code", "kwargs"],
    "redirect": ["self", "url", "permanent", "status"],
    "check_origin": ["self", "origin"],
    "_async_open": ["self", "token"],
    "parse_url_path": ["self", "path"],
    "HTTPServer": ["args", "kwargs"],
    "show": ["self", "app_path", "browser", "new"],
    "start": ["self"],
    "autoreload_handle_exception": ["handler", "module", "e"],
}


def header() -> Nav:
    return Nav(bridge=SessionBridge(), on={})


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, name, _ in HOOKS])
def test_the_servers_methods_take_what_they_took(owner: Any, name: str) -> None:
    method = getattr(owner, name)

    assert hasattr(method, "__wrapped__")
    assert list(inspect.signature(method).parameters) == SIGNATURES[name]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("_change_event", ["self", "doc"]),
        ("_process_param_change", ["self", "params"]),
        ("_get_properties", ["self", "doc"]),
    ],
)
def test_panel_calls_a_component_as_it_did(name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(JSComponent, name)).parameters) == parameters


async def test_a_session_has_its_loop_and_its_sockets() -> None:
    class Socket(WSHandler):
        def __init__(self) -> None: ...

    from tornado.ioloop import IOLoop

    document, socket = Document(), Socket()
    session = ServerSession(ID("1"), document, IOLoop.current())
    context: Any = SimpleNamespace(session=session)
    document._session_context = lambda: context  # type: ignore[assignment]  # as Bokeh keeps it: a weak reference

    assert patch.session_of(document) is session
    assert patch.sockets_of(document) == []
    ServerConnection(Protocol(), socket, SimpleNamespace(), session)  # type: ignore[arg-type]  # its context is not used
    assert patch.sockets_of(document) == [socket]
    assert patch.loop_of(document) is asyncio.get_running_loop()
    session.destroy()


def test_a_component_has_the_models_that_show_it() -> None:
    nav = header()
    assert patch.models_of(nav) == []

    root: Any = nav.get_root()

    assert patch.models_of(nav) == [root]
    document = Document()
    document.add_root(root)
    (event,) = patch.changes(nav, {"title": "Jobs"})
    assert f'"model":{{"id":"{root.data.id}"}},"attr":"title","new":"Jobs"' in event.decode()
    assert root.importmap == {}
    assert not [sheet for sheet in root.stylesheets if hasattr(sheet, "url")]


def test_changes_of_a_held_document_are_sent_as_one_message() -> None:
    """`_held_events`, which Bokeh fills while a document is held."""
    document, div = Document(), Div(text="a")
    document.add_root(div)
    sent: list[list[str]] = []
    connection = SimpleNamespace(
        protocol=SimpleNamespace(create=lambda _, events: [event.attr for event in events]),
        _socket=SimpleNamespace(),
    )
    session = SimpleNamespace(document=document, _loop=SimpleNamespace(), _subscribed_connections=[connection])
    session._loop.add_callback = lambda *values: sent.append(values[-1])
    context: Any = SimpleNamespace(session=session)
    document._session_context = lambda: context  # type: ignore[assignment]

    with patch.batch_changes(document):
        div.text = "b"
        div.visible = False
        assert not sent

    assert sent == [["text", "visible"]]
    assert document.callbacks.hold_value is None


def test_without_the_private_names_texts_go_the_public_way() -> None:
    document, div = Document(), Div(text="a")
    document.add_root(div)
    context: Any = SimpleNamespace(session=SimpleNamespace())  # a session of another release
    document._session_context = lambda: context  # type: ignore[assignment]
    heard: list[object] = []
    document.on_change(lambda event: heard.append(event))

    with patch.batch_changes(document):
        div.text = "b"

    assert len(heard) == 1
    assert patch.sockets_of(document) is None
    assert patch.models_of(SimpleNamespace()) is None
    assert patch.loop_of(document) is None


def test_a_server_without_one_of_the_hooks_does_not_start() -> None:
    """Pages would be open: nothing may be served then, and nothing was replaced."""

    class Context:
        create = "as it was"

    with pytest.raises(AttributeError, match="gone"):
        patch.replace_methods([(Context, "create", print), (Context, "gone", print)])

    assert Context.create == "as it was"


def test_no_other_file_uses_a_private_name_of_theirs() -> None:
    private = set(re.findall(r"\b\w+\.(_[a-z]\w+)\b", (UI / "patch.py").read_text("utf-8"))) - {
        "_finished",
        "_stylesheets",
    }
    private |= {"_change_event", "_process_param_change", "_get_properties", "_models", "_async_open", "_runner"}

    assert {"_held_events", "_subscribed_connections", "_socket", "_loop", "_tornado"} <= private
    for path in UI.rglob("*.py"):
        if path.name != "patch.py":
            used = set(re.findall(r"[\w)\]]\.(_[a-z]\w+)\b", path.read_text("utf-8"))) & private
            assert not {name for name in used if f"self.{name} = " not in path.read_text("utf-8")}, path


def test_a_session_without_a_rendered_page_asks_no_cdn(stage: Stage, serve: Serve) -> None:
    """It is made anew for a window that was away for long."""
    import panel as pn
    from bokeh.client import pull_session
    from bokeh.models import ImportedStyleSheet

    job = stage.kit.get(stage.submit("train", {"n": 3}))

    session = pull_session(url=serve(lambda: pn.Column(pn.widgets.Button(label="Go"), job)))

    found: Any = session.document.select({"type": ImportedStyleSheet})
    sheets = [str(each.url) for each in found]
    session.close()
    assert sheets
    assert not [url for url in sheets if url.startswith("http")]


def test_a_server_answers_the_check_of_an_open_page_and_leads_from_an_unknown_address_home(url: str) -> None:
    with urlopen(Request(url, method="HEAD")) as answer:
        assert answer.status == 200

    with pytest.raises(HTTPError) as unknown:
        urlopen(f"{url}/gone")

    with unknown.value as answer:
        assert answer.status == 404
        assert '<a href="/">' in answer.read().decode()


@pytest.mark.parametrize("shown", [pn.pane.Markdown("A text"), pn.widgets.Button()])
def test_a_document_with_a_widget_or_pane_of_panel_gets_the_scripts_that_it_is_made_of(
    shown: pn.viewable.Viewable,
) -> None:
    document = Document()
    pn.Column().server_doc(document)
    is_lean_before = patch.is_lean(document)

    shown.server_doc(document)

    assert (is_lean_before, patch.is_lean(document)) == (True, False)


async def test_changes_go_behind_those_that_panel_keeps() -> None:
    """They may name models that the browser gets with those."""
    sent: list[str] = []

    async def send(message: str) -> None:
        sent.append(message)

    document, connection = Document(), Mock()
    connection.protocol.create.return_value, connection._socket.send_message = "ours", send
    panel_document._WRITE_MSGS[document] = {connection: ["kept", "also kept"]}

    patch.send_changes(Mock(document=document, _subscribed_connections=[connection]), [Mock()])

    await until(lambda: len(sent) == 3, "the messages")
    assert sent == ["kept", "also kept", "ours"]
    assert not panel_document._WRITE_MSGS[document]
