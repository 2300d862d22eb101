"""Peers, each in a virtual environment of its own below `.bench/`, installed by name when first needed."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

CACHE = Path(__file__).parent.parent / ".bench"

#: With the extras that their own documentation recommends for speed.
PACKAGES = {
    "arq": ["arq", "hiredis", "uvloop"],
    "saq": ["saq[redis,hiredis]", "uvloop", "typing-extensions"],
    "huey": ["huey", "redis", "hiredis"],
}


def install() -> dict[str, Path]:
    """Peer to its Python; one that cannot be installed is left out, with a line that says so."""
    found: dict[str, Path] = {}
    for name, packages in PACKAGES.items():
        python = CACHE / name / "bin" / "python"
        if not (CACHE / name / "done").exists():
            print(f"installing {name} ...", file=sys.stderr, flush=True)
            venv.create(CACHE / name, with_pip=True, clear=True)
            command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages]
            if subprocess.run(command, check=False).returncode != 0:
                print(f"{name} could not be installed and is left out", file=sys.stderr)
                continue
            (CACHE / name / "done").touch()
        found[name] = python
    return found


def versions(pythons: dict[str, Path]) -> str:
    """`arq 0.28.0, ...`."""
    code = "import importlib.metadata as m, sys; print(sys.argv[1], m.version(sys.argv[1]))"
    return ", ".join(
        subprocess.run([str(python), "-c", code, name], check=True, capture_output=True, text=True).stdout.strip()
        for name, python in pythons.items()
    )
