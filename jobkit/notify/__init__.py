"""Telling others of jobs: webhooks, commands and OpenTelemetry.

`Teller` reads the kept events of a namespace, in order, in one of its workers at a time; a *sink* is one of those who
are told. A job is never held up by any of it, and nobody polls.
"""

from jobkit.notify.teller import Teller, teller_of

__all__ = ["Teller", "teller_of"]
