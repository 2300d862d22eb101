"""Tables: values of pandas, polars, Arrow and NumPy, as pages show them and as files.

For: results, pictures and artifacts that are tables or arrays: a page shows the first rows, an artifact is Parquet,
CSV or NPY. `values.py` recognises a value in `sys.modules`: no library is imported for it. It keeps no data.
Promise: a preview has at most 50 rows, 20 columns and 100 characters a cell, and is made without pickle.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(name="tables", parts=frozenset({"values"}))
