"""Pictures of a running job: what `jobkit.show` and `display()` get, as a preview that the card replaces live.

A picture is kept like an artifact, under the media type `PICTURE`: JSON of a preview (see `values.py`), so that pages
show it without running code of the job.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobkit.model import InvalidParams
from jobkit.model.format import size
from jobkit.run.inside.shown_values import TEXT_LIMIT, Preview, checked_name, preview_of, render_exactly

PICTURE = "application/vnd.jobkit.picture+json"

#: Begins the names of artifacts that are pictures.
PREFIX = "show:"

#: Bytes of one picture, and pictures of one job, at most.
PICTURE_MOST, PICTURES_MOST = 1_000_000, 20

#: How the bytes of images begin.
_MAGIC = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}


class TooLarge(Exception):
    """A picture that a card does not show; the message says how large it is."""


class PictureBuffer:
    """Pictures of a job that have not been sent. `say` writes a line to the job's log."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._names: set[str] = set()
        self._refused: set[str] = set()
        self.waiting: dict[str, bytes] = {}

    def draw(self, name: str, obj: Any, most: int) -> bool:
        """Draw a picture of at most `most` bytes; it replaces one of its name. Return False if it cannot be shown."""
        try:
            kept = checked_name(f"{PREFIX}{name}" if isinstance(name, str) and name.strip() == name else name)
            if kept not in self._names and len(self._names) >= PICTURES_MOST:
                raise InvalidParams(f"a job shows {PICTURES_MOST} pictures at most", "name")
            self.waiting[kept] = drawn(obj, min(PICTURE_MOST, most))
        except (InvalidParams, TooLarge) as error:
            if len(self._refused) < PICTURES_MOST and repr(name) not in self._refused:
                self._refused.add(repr(name))
                self._say(f"picture {name!r:.100} is not shown: {error}")
            return False
        self._names.add(kept)
        return True

    def take(self) -> dict[str, bytes]:
        """Return the newest of each name since the last call."""
        taken, self.waiting = self.waiting, {}
        return taken


def drawn(obj: Any, most: int = PICTURE_MOST) -> bytes:
    """Return the preview of an object as JSON of at most `most` bytes. Raises TooLarge."""
    preview = _image(obj, most) or _rich(obj, preview_of(obj, png_limit=most * 7 // 10)[0])
    render_exactly(obj, preview, most * 3 // 8)
    if "spec" in preview and len(json.dumps(preview["spec"])) > most // 2:
        del preview["spec"]
    body = json.dumps(preview, allow_nan=False, default=str).encode("utf-8", "backslashreplace")
    if len(body) > most:
        raise TooLarge(f"{size(len(body))}, more than the {size(most)} that a card shows")
    return body


def _image(obj: Any, most: int) -> Preview | None:
    """Bytes or the file of an image."""
    try:
        if isinstance(obj, os.PathLike):
            path = Path(obj)
            count = path.stat().st_size
            begin = path.open("rb").read(4) if path.is_file() else b""
        elif isinstance(obj, (bytes, bytearray)):
            count, begin = len(obj), bytes(obj[:4])
        else:
            return None
        kind = next((kind for magic, kind in _MAGIC.items() if begin.startswith(magic)), None)
        if kind is None:
            return None
        if count * 4 / 3 > most:
            raise TooLarge(f"{size(count)}, more than the {size(most * 3 // 4)} that a card shows")
        content = path.read_bytes() if isinstance(obj, os.PathLike) else bytes(obj)
    except OSError:
        return None
    return {
        "type": kind.upper(),
        "text": "",
        "picture": f"data:image/{kind};base64,{base64.b64encode(content).decode()}",
    }


def _rich(obj: Any, preview: Preview) -> Preview:
    """Add what only notebooks show of an object whose preview is its text: SVG, JPEG, Markdown and LaTeX."""
    if preview.keys() - {"type", "text"}:
        return preview
    for name, key in {"svg": "html", "jpeg": "picture", "markdown": "text", "latex": "text"}.items():
        draw = getattr(type(obj), f"_repr_{name}_", None)
        try:
            found = draw(obj) if callable(draw) else None
        except Exception:  # of the user's object
            continue
        if isinstance(found, bytes):
            found = f"data:image/jpeg;base64,{base64.b64encode(found).decode()}"
        if isinstance(found, str) and found:
            return {**preview, key: found[:TEXT_LIMIT] if key == "text" else found}
    return preview
