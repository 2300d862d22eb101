"""Downloads of a batch's card: rows as Parquet, artifacts as a ZIP file."""

from __future__ import annotations

import base64
import io
import json
import math
import zipfile

import pytest

import jobkit
from jobkit.client.batch import Batch
from jobkit.features.batches.batch_files import answer
from jobkit.features.batches.batch_model import BatchModel
from tests.ui.stage import Stage


def told_of(batch: Batch, what: str) -> dict[str, str]:
    model = BatchModel([job.snapshot for job in batch], axes=batch.axes, spec=batch.spec)
    for i in model.wanting():
        model.show(i, batch.kit.preview(batch[i].id))
    told: dict[str, str] = json.loads(answer(batch, model, what, "n1"))
    return told


def saves(n: int) -> dict:
    jobkit.current().save("notes.txt", f"of {n}")
    return {"loss": n / 2, "label": "x" if n else 3}


def test_the_artifacts_of_all_jobs_are_one_file(stage: Stage) -> None:
    batch = stage.kit.map(saves, [1, 2], name="first try")
    batch.wait(60)

    told = told_of(batch, "artifacts")

    assert (told["name"], told["n"]) == ("first try.zip", "n1")
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(told["base64"]))) as archive:
        assert sorted(archive.namelist()) == sorted(f"{job.id}/notes.txt" for job in batch)
        assert archive.read(f"{batch[1].id}/notes.txt") == b"of 2"
    assert "have saved no artifacts" in told_of(stage.kit.map(abs, [1]), "artifacts")["problem"]


def test_rows_are_saved_as_parquet(stage: Stage) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    batch = stage.kit.map(saves, [0, 1, 2])
    batch.wait(60)

    table = parquet.read_table(io.BytesIO(base64.b64decode(told_of(batch, "parquet")["base64"]))).to_pydict()

    assert table["n"] == [0, 1, 2]
    assert table["loss"] == [0.0, 0.5, 1.0]
    assert table["label"] == ["3", "x", "x"]
    assert table["id"] == [job.id for job in batch]


def diverges(n: int) -> dict[str, object]:
    return {"loss": math.nan if n else 0.5, "lowest": -math.inf if n else 1, "acc": 1.25, "name": "a"}


def test_a_job_that_has_diverged_keeps_the_columns_of_its_result(stage: Stage) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    batch = stage.kit.map(diverges, [0, 1])
    batch.wait(60)

    table = parquet.read_table(io.BytesIO(base64.b64decode(told_of(batch, "parquet")["base64"]))).to_pydict()

    assert list(table) == ["n", "state", "loss", "lowest", "acc", "name", "duration_s", "note", "id"]
    assert table["loss"][0] == 0.5
    assert math.isnan(table["loss"][1])
    assert (table["lowest"], table["acc"], table["name"]) == ([1, -math.inf], [1.25, 1.25], ["a", "a"])
