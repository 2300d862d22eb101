"""Reports: a job as one HTML file for readers without jobkit.

The cards of `card_html.py`, with all arguments, the whole log and the pictures. The file loads nothing from elsewhere,
and its own policy forbids it to.
"""

from __future__ import annotations

import os
import secrets
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from jobkit.model import InvalidParams, JobkitError
from jobkit.model.format import local_time
from jobkit.model.plain import dumps
from jobkit.tasks.params import checked
from jobkit.ui.card.card_html import card_html, folded, table
from jobkit.ui.card.card_model import CardModel
from jobkit.ui.card.downloads import IMAGES, in_base64, read_card
from jobkit.ui.words import assets

if TYPE_CHECKING:
    from jobkit.client.job import Job
    from jobkit.client.outputs import Artifact

#: Limits of one report: log lines of a job, bytes of a picture.
LINES, PICTURE_BYTES = 5_000, 10_000_000

_POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

_SHEET = """
body { margin: 24px auto; max-width: 962px; padding: 0 16px; font: 14px/20px system-ui,sans-serif; }
body { background: BG; color: TEXT; }
body>div,body>details { margin-bottom: 16px; }
footer { color: MUTED; font-size: 12px; }
summary { cursor: pointer; }
"""


def job_report(job: Job, path: object) -> Path:
    """Write the report of a job, and return its path.

    Raises:
        InvalidParams: the file cannot be written.
    """
    target = checked_path(path)
    snapshot = job.snapshot
    return write(target, snapshot.spec.title or snapshot.spec.task, [job_part(job)])


def job_part(job: Job) -> str:
    """Return the card of a job with all that a report has of it, as HTML."""
    model = CardModel(job.snapshot, lines=deque(maxlen=LINES))
    parts: list[str] = []
    try:
        parts += map(_picture, job.kit.artifacts(job.id))
        read_card(job.kit, model, LINES)
    except JobkitError as error:
        parts.append(f'<p class="m">{escape(str(error))}</p>')
    return card_html(model, most_lines=LINES, before=_arguments(job), after="".join(parts))


def _arguments(job: Job) -> str:
    rows = [[f"<code>{escape(dumps(value))}</code>"] for value in job.params.values()]
    return folded("Arguments", table(rows, names=[escape(name) for name in job.params])) if rows else ""


def _picture(artifact: Artifact) -> str:
    """Return an image as a part of the file. A picture in SVG is an image, too: its scripts do not run."""
    if artifact.media_type not in IMAGES:
        return ""
    name = escape(artifact.name)
    if artifact.size_bytes > PICTURE_BYTES:
        return f'<p class="m">{name} is too large for a report</p>'
    try:
        content = in_base64(artifact.read())
    except JobkitError as error:
        return f'<p class="m">{name}: {escape(str(error))}</p>'
    picture = f'<img alt="{name}" src="data:{artifact.media_type};base64,{content}">'
    return f'<figure style="margin:0"><figcaption class="m">{name}</figcaption>{picture}</figure>'


def checked_path(path: object) -> Path:
    """Return the path of a report. Raises InvalidParams: it names no file."""
    target = Path(path if isinstance(path, os.PathLike) else checked("path", path, "str")).expanduser()
    if target.is_dir() or not target.name:
        raise InvalidParams(f"path must name a file like 'run.html', not the directory {str(target)!r}", "path")
    return target


def write(path: Path, title: str, parts: Sequence[str]) -> Path:
    """Write a report of these parts, which are HTML, and return its path. Raises InvalidParams if it cannot."""
    from jobkit import __version__

    light, dark = assets.tokens()
    sheet, night = (
        _SHEET.replace("BG", colours["bg"]).replace("TEXT", colours["text"]).replace("MUTED", colours["muted"])
        for colours in (light, {**light, **dark})
    )
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title>'
        f"<style>{sheet}@media(prefers-color-scheme:dark){{{night}}}</style></head><body>{''.join(parts)}"
        f"<footer>Saved by jobkit {__version__}, {local_time(datetime.now(UTC))}</footer></body></html>\n"
    )
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        try:
            aside.write_text(text, "utf-8", "replace")
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InvalidParams(f"{str(path)!r} cannot be written: {error.strerror or error}", "path") from None
    return path
