"""`jobkit.show`: pictures in the card of a running job."""

from __future__ import annotations

from typing import Any

from jobkit.run.inside.context import active_recorder


def show(name: str, obj: Any) -> None:
    """Show something in the card of this job, at once; the same name replaces it.

    Each call draws it, so every tenth step of a fast loop is enough. What is too large is said in the job's log.
    Outside a job it does nothing.

    Args:
        name: 1 to 195 printable characters, no path separators; a job has up to 20 of them.
        obj: a figure of matplotlib or Bokeh, a PIL image, a DataFrame or array, anything that shows itself as HTML (in
            a sandbox), a chart of Plotly or Altair (its specification, with a picture), the bytes or the path of a PNG,
            JPEG, GIF or WebP; of other objects their text.

    Example:
        >>> def fit(epochs):
        ...     for epoch in range(epochs):
        ...         jobkit.show("losses", table)
        >>> job = kit.submit(fit, 2)
    """
    if (recorder := active_recorder()) is not None:
        recorder.show(name, obj)
