"""Downloads of a card: an artifact to show or to save, and the whole log.

Only what a person asked for is read, within limits, since it travels over the page's own websocket as one text.
Nothing is unpickled; what can be shown becomes a preview as results have (`jobkit.run.inside.shown_values`).
"""

from __future__ import annotations

import base64
import contextlib
import csv
import gzip
import importlib
import importlib.util
import io
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from jobkit.client.kit import Kit
from jobkit.client.outputs import Artifact
from jobkit.model import JobkitError
from jobkit.model.format import size
from jobkit.model.plain import dumps, to_json
from jobkit.run.inside.pictures import PICTURE, PREFIX
from jobkit.run.inside.shown_values import COLUMNS, ROWS, preview_of
from jobkit.ui.card.card_model import CardModel
from jobkit.ui.card.log_lines import shown_slice

#: Bytes of an artifact that the card shows, at most.
SHOWN_BYTES = 3_000_000

#: Bytes of a download, at most.
SAVED_BYTES = 30_000_000

#: Bytes of a whole log, from its end, before it is packed.
LOG_BYTES = 100_000_000

#: Lines of one page of a log.
PAGE_LINES = 500

#: Places of one answer to a search in a log.
HITS = 20_000

#: Unpacked bytes of the part of a Parquet file that is read for a preview, at most, by the file's own word.
_UNPACKED_BYTES = 64_000_000

_TEXT_CHARS = 20_000

#: Pictures that an <img> shows and that cannot run anything there.
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml")


def answer(kit: Kit, job_id: str, asked: Mapping[str, Any]) -> str:
    """Return the JSON text for a card's request; blocking.

    Args:
        asked: `action` is "show", "save" (both with the artifact's `name`), "whole-log", "log-page" or "log-lines"
            (with any of `search`, `level`, `after`, `before` and `newest`), or "log-hits" (with `search`, `level` and
            `after`).

    Returns:
        `{"action", "name", "n"}` as asked, and one of `preview`; `base64` with `media_type` and `packed` (whether it
        is gzip); `lines` with what else a `LogSlice` has; the fields of `LogHits`; `problem`, a sentence.
    """
    action, name = str(asked.get("action")), str(asked.get("name", ""))[:200]
    told: dict[str, Any] = {"action": action, "name": name}
    told["n"] = str(asked.get("n", ""))[:40]  # so that no two answers are equal
    return reply_text(told, lambda: _found(kit, job_id, action, name, asked))


def reply_text(told: Mapping[str, Any], read: Callable[[], Mapping[str, Any]]) -> str:
    """Return a reply as JSON: `told` with what `read` returns, or with why it failed as `problem`."""
    try:
        found = read()
    except JobkitError as error:
        found = {"problem": str(error)}
    except OSError as error:
        found = {"problem": f"it could not be read: {error.strerror or error}"}
    return dumps({**told, **found})


def _found(kit: Kit, job_id: str, action: str, name: str, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    if action == "whole-log":
        return _log(kit, job_id)
    if action in ("log-page", "log-lines"):
        return _log_page(kit, job_id, asked)
    if action == "log-hits":
        wanted = {name: asked.get(name, "") for name in ("search", "level")}
        hits: dict[str, Any] = to_json(kit.log_hits(job_id, **wanted, after=asked.get("after", 0), most=HITS))
        return hits
    artifact = kit.artifact(job_id, name)
    return _shown(artifact) if action == "show" else _saved(artifact, job_id)


def read_card(kit: Kit, model: CardModel, tail: int) -> None:
    """Read what a saved card shows beside the snapshot: results, and the last `tail` lines of the log; blocking.

    Raises:
        JobkitError: the job is not kept, or the store does not answer. The model has what was read before.
    """
    job_id = model.snapshot.id
    log = kit.log_slice(job_id, tail=tail)
    model.load_log(log.lines, log.total, log.dropped)
    model.keep([artifact.to_json() for artifact in kit.artifacts(job_id)])
    model.pictures = pictures_of(kit, job_id)
    if model.snapshot.metrics.n:
        model.curves.load(kit.metric_lines([job_id])[0])
    for made in kit.connection.call(kit.verbs.made_all, [model.snapshot]):
        model.made_by(made.lines())
    model.show(kit.preview(job_id))


def pictures_of(kit: Kit, job_id: str) -> dict[str, dict[str, Any]]:
    """Return the previews of the pictures that a job shows, by name; blocking. What cannot be read is left out.

    Raises:
        JobkitError: the job is not kept, or the store does not answer.
    """
    found = {}
    for artifact in kit.artifacts(job_id):
        if artifact.media_type == PICTURE and artifact.size_bytes <= SHOWN_BYTES:
            with contextlib.suppress(JobkitError, OSError, ValueError):
                found[artifact.name.removeprefix(PREFIX)] = json.loads(artifact.read())
    shown = sorted(found.items(), key=lambda item: placed(item[0]))
    return {name: preview for name, preview in shown if isinstance(preview, dict)}


def placed(name: str) -> tuple[int, str]:
    """Return the order of a picture: what `display()` and `plt.show()` have shown is numbered together."""
    numbered = re.fullmatch(r"(?:figure|output) (\d{1,4})", name)
    return int(numbered[1]) if numbered else 0, name


def _saved(artifact: Artifact, job_id: str) -> dict[str, Any]:
    if artifact.size_bytes > SAVED_BYTES:
        return {
            "problem": f"{artifact.name} has {size(artifact.size_bytes)}, more than a page sends; "
            f"`kit.artifact({job_id!r}, {artifact.name!r}).save()` writes it to a file"
        }
    return {"media_type": artifact.media_type, "base64": in_base64(artifact.read())}


def _shown(artifact: Artifact) -> dict[str, Any]:
    if artifact.size_bytes > SHOWN_BYTES:
        return {"problem": f"{artifact.name} has {size(artifact.size_bytes)}, too much to show here; save it"}
    preview = _preview(artifact.read(), artifact.media_type)
    if preview is None:
        return {"problem": f"{artifact.name} is {artifact.media_type}, which a page cannot show; save it"}
    return {"preview": preview}


def _preview(content: bytes, media_type: str) -> dict[str, Any] | None:
    kind = media_type.partition(";")[0].strip().lower()
    try:
        if kind in IMAGES:
            return {"picture": f"data:{kind};base64,{in_base64(content)}"}
        if kind == "text/html":
            return {"page": content.decode("utf-8", "replace")}
        if kind == "text/csv":
            head, *body = [*csv.reader(io.StringIO(content.decode("utf-8", "replace")))] or [[]]
            rows = [row[:COLUMNS] for row in body[:ROWS]]
            return {"table": {"columns": head[:COLUMNS], "rows": rows, "shape": [len(body), len(head)]}}
        if kind == PICTURE:
            shown = json.loads(content)
            return shown if isinstance(shown, dict) else None
        if kind == "application/json":
            return {"json": json.loads(content)}
        if "parquet" in kind and importlib.util.find_spec("pyarrow") is not None:
            return _head_of_parquet(content)
        if kind.startswith("text/"):
            text = content.decode("utf-8", "replace")
            more = f"\n… {len(text) - _TEXT_CHARS:,} more characters" if len(text) > _TEXT_CHARS else ""
            return {"text": text[:_TEXT_CHARS] + more}
        if content[:6] == b"\x93NUMPY":
            return preview_of(importlib.import_module("numpy").load(io.BytesIO(content), allow_pickle=False))[0]
    except Exception:  # not what its media type says: it can still be saved
        return None
    return None


def _head_of_parquet(content: bytes) -> dict[str, Any] | None:
    """Return the preview of the first rows and columns: a small file may unpack to gigabytes, so no others are read."""
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    file = parquet.ParquetFile(io.BytesIO(content))
    metadata, names = file.metadata, file.schema_arrow.names
    if metadata.num_row_groups and metadata.row_group(0).total_byte_size > _UNPACKED_BYTES:
        return None
    head = next(file.iter_batches(ROWS, columns=names[:COLUMNS]), None)
    table = file.schema_arrow.empty_table() if head is None else arrow.Table.from_batches([head])
    shown: dict[str, Any] = preview_of(table)[0]
    shown["table"]["shape"] = [metadata.num_rows, len(names)]
    return shown


def _log(kit: Kit, job_id: str) -> dict[str, Any]:
    """Return the file if it is on this machine, else the bytes that the server keeps."""
    kit.snapshot(job_id)  # says so where the job is gone
    path = kit.log_file(job_id)
    if path is not None:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, io.SEEK_END) - LOG_BYTES))
            content = file.read()
    else:
        found = kit.log_slice(job_id)
        content = "".join(f"{line.text}\n" for line in found.lines).encode()
    packed = gzip.compress(content, 5)
    if len(packed) > SAVED_BYTES:
        where = f"it is in {path}" if path is not None else f"`jobkit logs {job_id} --all` prints it"
        return {"problem": f"the log has {size(len(content))}, more than a page sends; {where}"}
    return {"media_type": "text/plain", "base64": in_base64(packed), "packed": True}


def _log_page(kit: Kit, job_id: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return lines of the whole log: those around a place, or those that match."""
    after, before = asked.get("after"), asked.get("before")
    found = kit.log_slice(
        job_id,
        after=0 if after is None else after,
        before=before,
        tail=PAGE_LINES if asked.get("newest") or (after is None and before is None) else None,
        search=asked.get("search", ""),
        level=asked.get("level", ""),
        limit=PAGE_LINES,
    )
    return shown_slice(found)


def in_base64(content: bytes) -> str:
    """Return bytes as text for a page."""
    return base64.b64encode(content).decode()
