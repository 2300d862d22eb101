"""Notifications about jobs: webhooks, commands, OpenTelemetry and MLflow.

One worker of a namespace at a time runs the `Notifier`, which reads the event stream in order and calls the *sinks*.
Notifications never delay a job.
"""

from jobkit.notify.notifier import Notifier, notifier_of

__all__ = ["Notifier", "notifier_of"]
