"""Bases of objects that people see: `Listed` by `dir()`, `Shown` in a notebook, as each front end asks for it."""

from __future__ import annotations

from typing import Any, ClassVar


class Listed:
    """`dir()` and completion list the public names of an object, except `_internal` ones, for jobkit's own code."""

    _internal: ClassVar[frozenset[str]] = frozenset()

    def __dir__(self) -> list[str]:
        hidden = {name for kind in type(self).__mro__ for name in vars(kind).get("_internal", ())}
        return sorted(name for name in super().__dir__() if name[0] != "_" and name not in hidden)


class Shown(Listed):
    """A subclass has `_cell()`, which returns its `CellDisplay` of `jobkit.ui.notebook`."""

    def _cell(self) -> Any:
        raise NotImplementedError

    def widget(self) -> Any:
        """Return a live ipywidget to put into others: `HBox([job.widget(), ...])`. `close()` ends it."""
        return self._cell().widget()

    def _ipython_display_(self) -> None:
        """Display it; IPython calls this first, and if it raises NotImplementedError `_repr_mimebundle_`."""
        self._cell().show()

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> Any:
        return self._cell().bundle()

    def _display_(self) -> Any:
        """Return what marimo shows."""
        return self._cell().marimo()
