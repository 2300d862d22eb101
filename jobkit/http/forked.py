"""`panel serve --num-procs 2`: the processes of a server know the same, and end with the one that started them.

Bokeh leaves them to themselves: whoever ends the server by its process id (`kill`, a container's stop) would leave the
others behind, which keep the port and answer from it. There is no place in them that runs before their first page, but
this plugin is loaded before they are forked.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """From now on, what Tornado forks from this process gets SIGTERM when this process is gone. Linux only."""
    if sys.platform != "linux":
        return
    parent, prctl = os.getpid(), ctypes.CDLL(None).prctl

    def forked() -> None:
        if _is_a_servers():
            prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != parent:  # it died between fork and prctl
                os.kill(os.getpid(), signal.SIGTERM)

    os.register_at_fork(after_in_child=forked)


def know_extensions() -> None:
    """Each process serves the files of every page. Bokeh finds those of an extension only if that is imported, so a
    process that has not made a page yet would not have what a page of its sibling asks it for. The same holds for what
    jobkit changes in Panel's server."""
    for module in ("panel_material_ui", "jobkit.ui.panel_server"):
        importlib.import_module(module)


def _is_a_servers() -> bool:
    """Whether this fork is one of `tornado.process.fork_processes`, and none of somebody else's."""
    frame = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__") != "tornado.process":
        frame = frame.f_back  # type: ignore[assignment]  # None at the end
    return frame is not None
