"""Facts of this Python: the system, installed packages, the program, variables."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from jobkit.tasks.masking import MASK, is_secret_name, masked

_ENV_MOST, _VALUE_MOST = 200, 1_000


def system() -> str:
    """Return "Linux 6.1.0 x86_64"."""
    return f"{platform.system()} {platform.release()} {platform.machine()}"


_INSTALLED_IN = ("site-packages", "dist-packages")
_INSTALLED = re.compile(r"(?P<name>.+?)-(?P<version>\d[^-]*)(-py3\.\d+)?\.(?:dist|egg)-info")


def packages(folders: Sequence[str] | None = None) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the installed packages with their versions, by name, and the names of those that are of no index.

    Reads the names of directories, which takes a hundredth of the time of `importlib.metadata`.

    Args:
        folders: to import from, the first one preferred; those of this process unless given.
    """
    found: dict[str, str] = {}
    local: list[str] = []
    for folder in sys.path if folders is None else folders:
        for name in _names(folder):
            if match := _INSTALLED.fullmatch(name):
                package, version = _normalized(match["name"]), match["version"]
            elif name.endswith(".egg-info"):
                known, version = name.removesuffix(".egg-info"), ""
                package = _normalized(known)
                with suppress(Exception):  # of a damaged file
                    version = importlib.metadata.version(known)
            else:
                continue
            if version and package not in found:
                found[package] = version
                if not folder.endswith(_INSTALLED_IN) or _has_source(os.path.join(folder, name)):
                    local.append(package)
    return dict(sorted(found.items())), tuple(sorted(local))


def _has_source(info: str) -> bool:
    """Return whether a package came from a file, folder or repository. All of conda say so, and are in its index."""
    try:
        with open(f"{info}/direct_url.json", "rb"), open(f"{info}/INSTALLER", "rb") as installer:
            return installer.read(10).strip() != b"conda"
    except OSError:
        return os.path.exists(f"{info}/direct_url.json")


def _names(folder: str) -> Sequence[str]:
    try:
        return os.listdir(folder or ".")
    except OSError:
        return ()


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def package_folders() -> Iterator[str]:
    """Yield the directories whose time changes when a package is installed."""
    return (folder for folder in sys.path if folder.endswith(_INSTALLED_IN))


#: Of commands that an environment has installed, and of this package.
_NO_PROGRAMS = tuple(os.path.join(folder, "") for folder in (sys.prefix, Path(__file__).parents[2]))


def program() -> str:
    """Return the path of the user's notebook or script in this process, "" if there is none: in a worker, for one."""
    main = sys.modules.get("__main__")
    for found in (
        os.environ.get("JPY_SESSION_NAME"),
        *(getattr(main, at, None) for at in ("__vsc_ipynb_file__", "__file__")),
    ):
        if isinstance(found, str) and found and "ipykernel" not in found:
            path = os.path.abspath(found)
            return "" if path.startswith(_NO_PROGRAMS) else path
    return ""


def is_users() -> bool:
    """Return True in a notebook, a script or a session at a terminal, which will probably submit jobs."""
    return "ipykernel" in sys.modules or hasattr(sys, "ps1") or bool(program())


def variables(patterns: Sequence[str]) -> dict[str, str]:
    """Return the environment variables with these names, which may contain `*`; what looks like a secret is masked."""
    names = sorted(name for name in os.environ if any(fnmatchcase(name, pattern) for pattern in patterns))
    return {
        name: MASK if is_secret_name(name) and name != "PWD" else masked(os.environ[name])[:_VALUE_MOST]
        for name in names[:_ENV_MOST]
        if name not in ("JOBKIT_SECRET", "JOBKIT_TOKEN_SECRET", "JOBKIT_URL")
    }
