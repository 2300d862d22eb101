"""The page that `jobkit up` and `jobkit dashboard` serve, run by `panel serve` once per browser session.

It shows the dashboard of the configured kit. Start your own from the `dashboard.py` of the README.
"""

import contextlib

import jobkit
from jobkit.client.loop import background
from jobkit.tasks.registry import registry
from jobkit.ui import Dashboard
from jobkit.ui.panel_server import refuse

try:
    kit = jobkit.connect()  # the kit of the process: all sessions share its connection
except jobkit.StoreUnavailable as error:
    refuse("The jobs cannot be shown", f"{error}. This page reloads every 3 seconds.", status=503, reload_s=3)
else:
    registry.load(kit.settings.task_modules)
    with contextlib.suppress(jobkit.StoreUnavailable):  # the page opens anyway, and workers register them too
        background.call(kit.verbs.introduce())
    Dashboard(kit).servable()
