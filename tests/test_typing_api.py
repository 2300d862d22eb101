"""mypy and pyright give `typing_api.py` the types that it asserts, and refuse the lines that it marks."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("checker", "options"),
    [
        ("mypy", ["--no-error-summary", "--cache-dir=.mypy_cache/of_tests"]),  # `make check` may run beside it
        ("pyright", ["--pythonpath", sys.executable]),
    ],
)
def test_code_of_users_has_types(checker: str, options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed: pip install -e '.[test]'")
    monkeypatch.setenv("PYRIGHT_PYTHON_IGNORE_WARNINGS", "1")  # it would ask for its newest version

    command = [sys.executable, "-m", checker, *options, "tests/typing_api.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
