"""`Shown`: the base of what shows itself in a notebook, in each of the ways in which front ends ask for that."""

from __future__ import annotations

from typing import Any


class Shown:
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
