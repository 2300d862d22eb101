"""Functions of notebooks and scripts: their globals are sent along, or the missing module is named."""

from __future__ import annotations

import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from jobkit.client.kit import Kit


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Module beside the notebook, found only by the import path."""
    name = f"beside_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text("def twice(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


def typed(source: str, **names: object) -> object:
    """Return a function like one of a notebook: defined in `__main__`."""
    namespace: dict[str, object] = {"__name__": "__main__", **names}
    exec(source, namespace)
    return namespace["f"]


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_modules_beside_the_notebook_are_found(kit: Kit, beside: str, kind: str) -> None:
    inside = typed(f"{kind} f(x):\n    import {beside}\n    return {beside}.twice(x)")
    outside = typed(f"{kind} f(x):\n    return module.twice(x)", module=__import__(beside))

    assert kit.submit(inside, 21).result(60) == 42  # type: ignore[arg-type]
    assert kit.submit(outside, 4).result(60) == 8  # type: ignore[arg-type]


def test_a_module_missing_in_the_worker_is_named_with_host_and_fix(queued: Kit) -> None:
    ghost = types.ModuleType("ghost_of_this_test")
    ghost.__spec__ = ModuleSpec(ghost.__name__, None)  # as if it was installed here
    sys.modules[ghost.__name__] = ghost
    try:
        outside = queued.submit(typed("def f():\n    return ghost.k", ghost=ghost))  # type: ignore[arg-type]
        inside = queued.submit(typed("def f():\n    import ghost_of_this_test"))  # type: ignore[arg-type]
        for job in (outside, inside):
            job.wait(60)
            assert "ghost_of_this_test" in job.error.message
            assert "install it there (" in job.error.message
        assert inside.error.type == "ModuleNotFoundError"
        assert len(str(inside.error).splitlines()) == 1
    finally:
        del sys.modules[ghost.__name__]
