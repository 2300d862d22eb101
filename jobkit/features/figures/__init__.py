"""Figures: charts of matplotlib, Bokeh, HoloViews, Plotly and Altair, and images, in cards and as files.

For: a result, `jobkit.show`, `display()` and `plt.show()` in a job (`patches.py`). `values.py` makes PNG, the JSON of a
figure or a simple drawing (`drawing.py`); `charts.py` says which. No library is imported for it. It keeps no
data. Promise: a figure that cannot be drawn costs the job nothing, and the card says what helps.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(name="figures", parts=frozenset({"values", "patches"}))
