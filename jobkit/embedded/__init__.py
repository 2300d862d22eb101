"""Embedded server: a private redis-server, its local workers, and one supervisor per home that keeps them alive.

`launch.ensure_running(settings)` returns settings with the URL and signing key of a running server, and starts one if
necessary. This room does not know jobs, except that `launch` asks the store whether any are left.
"""

from jobkit.embedded.launch import attach, ensure_running, revive, shutdown

__all__ = ["attach", "ensure_running", "revive", "shutdown"]
