"""Updates of jobs for an external Mercure hub: `MERCURE_URL` and `MERCURE_JWT`.

For: sites whose pages already hear a hub. jobkit's own hub is a part of `jobkit/http/`.
In Redis: `forwarded` marks the last update that the hub has accepted.
Promise: the hub gets each change of state at least once, in order.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(name="mercure", after=("notify",), services={"server": ("mercure_url",)})
