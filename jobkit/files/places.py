"""`place_of`: the storage for the value of a setting."""

from __future__ import annotations

from pathlib import Path

from jobkit.files.remote import Remote
from jobkit.files.storage import Directory, Place
from jobkit.joined import SCHEME


def place_of(where: str, setting: str = "results", home: Path | None = None) -> Place:
    """Return the storage for the value of a setting. Raises InvalidParams: the URL is not supported.

    Args:
        home: copies of files of other machines are below it; default: that of the settings.
    """
    if where.startswith(f"{SCHEME}://"):
        from jobkit.files.gateway import files_of

        return files_of(where, home)
    return Remote(where, setting, home) if "://" in where else Directory(Path(where), setting)
