"""The embedded server: a private redis-server, its workers, and the one supervisor per home that keeps them alive.

`launch.ensure_running(settings)` is the way in: it gives the URL and the signing key of a running server, and starts
one where there is none. Nothing here knows what a job is, except `idle`, which asks the store whether any is left.
"""

from jobkit.embedded.launch import EmbeddedServer, attach, ensure_running, shutdown

__all__ = ["EmbeddedServer", "attach", "ensure_running", "shutdown"]
