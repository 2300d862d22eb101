"""The dashboard: `panel serve dashboard.py`.

Needs no configuration: without `JOBKIT_URL` jobkit starts its own Redis and workers, and without tasks of yours it
offers those of `jobkit.demo`.
"""

import importlib

import jobkit
from jobkit.ui import Dashboard

kit = jobkit.connect()
for module in kit.settings.tasks or ("jobkit.demo",):
    importlib.import_module(module)

Dashboard(kit).servable()
