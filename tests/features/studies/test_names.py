"""Names of Optuna are answered with jobkit's."""

from __future__ import annotations

import re

import pytest

import jobkit
from jobkit.features.studies.kit import OPTUNAS
from jobkit.features.studies.study import Study
from jobkit.testing import MemoryKit


def test_an_attribute_of_an_optuna_study_is_answered_with_one_that_exists() -> None:
    with MemoryKit() as kit:
        study = kit.study(lambda n: n, trials=1, space={"n": [1]})
        what, names = Study._OTHER_NAMES
        for name, ours in names.items():
            with pytest.raises(AttributeError, match=re.escape(f"{what} has no `{name}`: use `{ours}`")):
                getattr(study, name)
            thing, attribute = re.findall(r"\b(study|kit)\.([a-z_]+)", ours)[0]
            assert hasattr({"study": study, "kit": kit}[thing], attribute)


@pytest.mark.parametrize("name", OPTUNAS)
def test_an_argument_of_an_optuna_study_is_answered_with_ours(name: str) -> None:
    with MemoryKit() as kit, pytest.raises(jobkit.InvalidParams, match=f"unknown option '{name}': write "):
        kit.study(len, **{name: 1})
