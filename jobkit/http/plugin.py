"""The API as a plugin of `panel serve`: changes to its server process, and the routes besides those of the API.

This module is loaded before the processes of `--num-procs` are forked, and before their first page.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import signal
import sys
from typing import Any

from tornado.ioloop import IOLoop

from jobkit.http.auth.sessions import fix_panels_logins
from jobkit.http.tornado_app import WebFolder
from jobkit.settings import Settings

#: `jobkit dashboard --web` passes the folder to its server in this variable: `PATH=FOLDER`.
WEB_VARIABLE = "_JOBKIT_WEB"

_PR_SET_PDEATHSIG = 1

_Routes = list[tuple[str, Any, dict[str, Any]]]


def begin(routes: _Routes) -> _Routes:
    """Prepare this server process. Returns the API's `routes`, and that of the `--web` folder if there is one."""
    fix_panels_logins()
    load_extensions()
    end_with_parent()
    api = routes[0][2]["api"]
    if Settings.load().mercure_url:  # forward updates from the start of the server, not from its first request
        IOLoop.current().add_callback(api.kit)
    path, _, folder = os.environ.get(WEB_VARIABLE, "").partition("=")
    if not folder:
        return routes
    options = {"path": folder, "default_filename": "index.html", "api": api}
    return [*routes, (rf"/{re.escape(path)}/(.*)", WebFolder, options)]


def end_with_parent() -> None:
    """Send SIGTERM to processes that Tornado forks from this one when this one ends. Linux only.

    Bokeh does not: ending the server by its process id (`kill`, a container's stop) leaves the others running, which
    keep the port and answer from it.
    """
    if sys.platform != "linux":
        return
    parent, prctl = os.getpid(), ctypes.CDLL(None).prctl

    def forked() -> None:
        if _is_forked_by_tornado():
            prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != parent:  # it ended between fork and prctl
                os.kill(os.getpid(), signal.SIGTERM)

    os.register_at_fork(after_in_child=forked)


def load_extensions() -> None:
    """Import the extensions and the changes to Panel's server that pages need.

    Bokeh serves the files of an extension only if the process has imported it, so a process that has not made a page
    yet could not serve the files of a page that another process has made.
    """
    for module in ("panel_material_ui", "jobkit.ui.panel_server"):
        importlib.import_module(module)


def _is_forked_by_tornado() -> bool:
    """Return whether this fork was made by `tornado.process.fork_processes`."""
    frame = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__") != "tornado.process":
        frame = frame.f_back  # type: ignore[assignment]  # None at the end
    return frame is not None
