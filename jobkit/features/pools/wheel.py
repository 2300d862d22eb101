"""A wheel of the jobkit that runs here, for machines that cannot get this version from an index."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from jobkit.features.pools.launcher import LaunchRefused

_NAME = "panel-jobkit"

#: Time of all files, so that the same code is the same wheel.
_TIME = (2020, 1, 1, 0, 0, 0)


@cache
def own_wheel() -> tuple[str, bytes]:
    """Return file name and content. Raises LaunchRefused if it runs from a copy that was never installed."""
    try:
        installed = distribution(_NAME)
    except PackageNotFoundError:
        raise LaunchRefused(f"{_NAME} is not installed here, so it cannot be copied to hosts: give python=") from None
    package = Path(__file__).parents[2]
    files = {
        f"jobkit/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    info = f"panel_jobkit-{installed.version}.dist-info"
    files[f"{info}/METADATA"] = (installed.read_text("METADATA") or "").encode()
    files[f"{info}/entry_points.txt"] = (installed.read_text("entry_points.txt") or "").encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: jobkit\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = [f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in files.items()]
    files[f"{info}/RECORD"] = "".join([*record, f"{info}/RECORD,,\n"]).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in files.items():
            wheel.writestr(zipfile.ZipInfo(name, _TIME), content, zipfile.ZIP_DEFLATED)
    return f"panel_jobkit-{installed.version}-py3-none-any.whl", packed.getvalue()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
