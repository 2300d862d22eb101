"""The entry "jobkit" in JupyterLab's launcher, for jupyter-server-proxy: the dashboard of the Jupyter server's user.

On a JupyterHub it is behind the login of the Hub. It listens on a unix socket in a folder of this user, so no other
user of the machine can connect to it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from jobkit.access.own_machine import JUPYTER_PID_VARIABLE

#: Seconds that the first page may take: the embedded server may have to start.
_START_S = 60


def entry() -> dict[str, Any]:
    """Return the entry for jupyter-server-proxy (group `jupyter_serverproxy_servers`)."""
    command = [sys.executable, "-m", "jobkit", "dashboard", "--unix-socket", "{unix_socket}"]
    return {
        "command": [*command, "--prefix", "{base_url}jobkit"],
        "environment": {JUPYTER_PID_VARIABLE: str(os.getpid())},
        "unix_socket": True,
        "absolute_url": True,
        "timeout": _START_S,
        "launcher_entry": {"title": "jobkit", "icon_path": str(Path(__file__).with_name("jobkit.svg"))},
    }
