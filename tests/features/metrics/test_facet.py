"""`jobkit show --metrics`."""

from __future__ import annotations

import json
import math
import re
from types import SimpleNamespace

import pytest

from jobkit.features.metrics import facet
from jobkit.model.metrics import Curves


def test_metrics_are_shown_as_a_table_or_as_points(capsys: pytest.CaptureFixture[str]) -> None:
    curves = Curves()
    curves.add({"loss": [(0, 1, 1.5), (4, 2, math.nan), (5, 3, 0.25)], "none": [(0, 1, math.inf)]})
    news = curves.take()
    assert news is not None
    kit = SimpleNamespace(metric_lines=lambda ids: [[news[2]] for _ in ids])

    facet.show(kit, "a", False)  # type: ignore[arg-type]
    table = capsys.readouterr().out
    facet.show(kit, "a", True)  # type: ignore[arg-type]

    assert re.search(r"loss +3 +5 +0\.25 +0\.25 +1\.5\nnone +1 +0 +inf +nan +nan", table)
    assert json.loads(capsys.readouterr().out)["loss"] == [[0, 1, 1.5], [4, 2, None], [5, 3, 0.25]]
