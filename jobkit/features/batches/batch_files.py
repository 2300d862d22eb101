"""Downloads of a batch's card: its rows as Parquet, and the artifacts of all of its jobs as one ZIP file.

Nothing is unpickled: rows are those that the card shows. Blocking.
"""

from __future__ import annotations

import importlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

from jobkit.client.batch import Batch
from jobkit.client.kit import Kit
from jobkit.features.batches.batch_model import BatchModel
from jobkit.model import JobkitError
from jobkit.model.format import size
from jobkit.model.plain import is_number
from jobkit.ui.card.downloads import SAVED_BYTES, in_base64, reply_text

#: What can be asked for: how the file's name ends, and its media type.
KINDS = {"parquet": (".parquet", "application/vnd.apache.parquet"), "artifacts": (".zip", "application/zip")}


def answer(batch: Batch, model: BatchModel, what: str, n: str) -> str:
    """Return the JSON text for a card's request: `n`, `name`, and `base64` with `media_type`, or `problem`."""
    ending, media_type = KINDS[what]

    def read() -> dict[str, str]:
        if what == "parquet":
            return {"base64": in_base64(_parquet(model.rows()))}
        return {"base64": in_base64(_artifacts(batch.kit, [job.id for job in batch.jobs]))}

    told = {"n": n, "name": f"{batch.name or model.title}{ending}", "media_type": media_type}
    return reply_text(told, read)


def _inside(name: str) -> str:
    """Return the name of an artifact as a path that cannot leave the folder in which a ZIP file is unpacked."""
    parts = [part for part in name.replace("\\", "/").split("/") if part.strip(". ")]
    return "/".join(parts) or "artifact"


def _parquet(shown: Mapping[str, Any]) -> bytes:
    try:
        arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise JobkitError(
            "Parquet needs pyarrow where the dashboard or kernel runs: pip install 'panel-jobkit[archive]'"
        ) from None
    columns: dict[str, Any] = {}
    for c, (name, kind) in enumerate(shown["columns"]):
        values = [row[2][c] for row in shown["rows"]]
        if any(map(is_number, values)):  # JSON has no NaN: such cells are text
            values = [float(value) if value in ("nan", "inf", "-inf") else value for value in values]
        kinds = {float if isinstance(value, int) and not isinstance(value, bool) else type(value) for value in values}
        is_plain = len(kinds - {type(None)}) <= 1
        key = "duration_s" if kind == "duration" else name
        while key in columns:
            key += " (2)"
        columns[key] = values if is_plain else [None if value is None else str(value) for value in values]
    file = io.BytesIO()
    parquet.write_table(arrow.table(columns), file)
    return file.getvalue()


def _artifacts(kit: Kit, job_ids: Sequence[str]) -> bytes:
    """Return a ZIP file with a folder for each job that has any."""
    file, total = io.BytesIO(), 0
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for job_id in job_ids:
            for artifact in kit.artifacts(job_id):
                total += artifact.size_bytes
                if total > SAVED_BYTES:
                    raise JobkitError(
                        f"the artifacts have more than {size(SAVED_BYTES)}, which a page does not send; "
                        "`for job in batch: job.artifacts()` reads them in Python"
                    )
                archive.writestr(f"{job_id}/{_inside(artifact.name)}", artifact.read())
    if not total:
        raise JobkitError("the jobs of this batch have saved no artifacts")
    return file.getvalue()
