"""The worker of a joined place as a service of this user: a unit of `systemd --user`, or an agent of launchd."""

from __future__ import annotations

import os
import plistlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from jobkit.access.own_machine import write_private
from jobkit.joined import REVOKED
from jobkit.model import JobkitError

#: Seconds that a stopping worker gets: its drain time, and some more to give jobs back.
_STOP_S = 90

#: Seconds between two starts by launchd, which cannot tell that the machine was revoked.
_THROTTLE_S = 30

#: Seconds that systemctl or launchctl may take.
_PATIENCE_S = 60.0


def install(name: str, argv: Sequence[str], environ: Mapping[str, str]) -> str:
    """Write the service of a joined place, start it now and at each login; return how to stop it.

    A service of the same name is replaced. Raises JobkitError if the service manager refuses; the file stays.
    """
    path = _path_of(name)
    if sys.platform == "darwin":
        domain = f"gui/{os.getuid()}"
        _write(path, agent_text(name, argv, environ))
        _call(path, "launchctl", "bootout", f"{domain}/org.jobkit.{name}", may_fail=True)
        _call(path, "launchctl", "bootstrap", domain, str(path))
        return f"launchctl bootout {domain}/org.jobkit.{name} && rm '{path}'"
    unit = path.name
    _write(path, unit_text(name, argv, environ))
    _call(path, "systemctl", "--user", "daemon-reload")
    _call(path, "systemctl", "--user", "enable", unit)
    _call(path, "systemctl", "--user", "restart", unit)
    return f"systemctl --user disable --now {unit}"


def uninstall(name: str) -> bool:
    """Stop and remove the service of a joined place; return True if there was one."""
    path = _path_of(name)
    if not path.exists():
        return False
    if sys.platform == "darwin":
        _call(path, "launchctl", "bootout", f"gui/{os.getuid()}/org.jobkit.{name}", may_fail=True)
        path.unlink()
    else:
        _call(path, "systemctl", "--user", "disable", "--now", path.name, may_fail=True)
        path.unlink()
        _call(path, "systemctl", "--user", "daemon-reload", may_fail=True)
    return True


def _path_of(name: str) -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "LaunchAgents" / f"org.jobkit.{name}.plist"
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return config / "systemd" / "user" / f"jobkit-{name}.service"


def unit_text(name: str, argv: Sequence[str], environ: Mapping[str, str]) -> str:
    """Return the unit of systemd."""
    lines = [
        "# Written by `jobkit join --service`.",
        "[Unit]",
        f"Description=jobkit worker of {name}",
        "",
        "[Service]",
        *(f"Environment={_quoted(f'{key}={value}')}" for key, value in environ.items()),
        f"ExecStart={' '.join(_quoted(part).replace('$', '$$') for part in argv)}",
        "Restart=always",
        "RestartSec=5",
        f"RestartPreventExitStatus={REVOKED}",
        f"TimeoutStopSec={_STOP_S}",
        "KillMode=mixed",
        "OOMPolicy=continue",
        "",
        "[Install]",
        "WantedBy=default.target",
    ]
    return "\n".join(lines) + "\n"


def agent_text(name: str, argv: Sequence[str], environ: Mapping[str, str]) -> str:
    """Return the property list of launchd."""
    log = str(Path(environ["JOBKIT_HOME"]) / "logs" / f"join-{name}.log")
    agent = {
        "Label": f"org.jobkit.{name}",
        "ProgramArguments": [*argv],
        "EnvironmentVariables": dict(environ),
        "RunAtLoad": True,
        "KeepAlive": True,
        "ThrottleInterval": _THROTTLE_S,
        "ExitTimeOut": _STOP_S,
        "StandardOutPath": log,
        "StandardErrorPath": log,
    }
    return plistlib.dumps(agent).decode()


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, text)
    except OSError as error:
        raise JobkitError(f"{path} cannot be written: {error.strerror or error}") from None


def _call(path: Path, *command: str, may_fail: bool = False) -> None:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_PATIENCE_S)
        why = "" if ended.returncode == 0 else ended.stderr.strip().partition("\n")[0] or f"status {ended.returncode}"
    except FileNotFoundError:
        why = "there is no such program"
    except subprocess.TimeoutExpired:
        why = f"no answer within {_PATIENCE_S:.0f} s"
    if why and not may_fail:
        raise JobkitError(
            f"`{' '.join(command)}` fails ({why}): the service is written to {path}, but does not run; without "
            "--service the worker runs in this terminal"
        )


def _quoted(text: str) -> str:
    """Return one word of a unit."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    return f'"{escaped}"'
