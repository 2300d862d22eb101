"""Notebooks as jobs: a notebook is a callable (`Notebook`), which a job's process executes in a separate kernel."""

#: End of the names of notebook files.
SUFFIX = ".ipynb"
