"""The page that `jobkit up` and `jobkit dashboard` serve; run by `panel serve` once for each browser session.

Nothing but the dashboard of the configured kit. A dashboard of your own starts from the `dashboard.py` of the README.
"""

import contextlib

import jobkit
from jobkit.tasks.registry import registry
from jobkit.ui import Dashboard
from jobkit.ui.live.notice import away_page

try:
    kit = jobkit.connect()  # the process's own: all sessions share its connection
except jobkit.StoreUnavailable as error:
    away_page(str(error)).servable("jobkit")
else:
    registry.load(kit.settings.tasks or ("jobkit.demo",))
    with contextlib.suppress(jobkit.StoreUnavailable):  # the page opens all the same, and workers see to them as well
        kit.register_schedules()
    Dashboard(kit).servable()
