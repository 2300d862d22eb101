"""The notifier of a worker, by the settings."""

from __future__ import annotations

from jobkit.features.notify.addresses import Address
from jobkit.features.notify.notifier import Notifier
from jobkit.features.notify.sinks import Command, NotificationSink, Webhook
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore


def service_of(settings: Settings, store: RedisStore) -> Notifier | None:
    """Return the notifier of these settings, or None. Raises JobkitError: a library of a sink is not installed."""
    sinks: list[NotificationSink] = [
        Command(rule) if rule.command else Webhook(rule, settings) for rule in settings.notify if not rule.to
    ]
    if settings.otel:
        from jobkit.features.notify.otel import Telemetry

        sinks.append(Telemetry(settings.namespace))
    if settings.mlflow:
        from jobkit.features.notify.mlflow import MlflowRuns

        sinks.append(MlflowRuns(settings.mlflow, store))
    addresses = [Address(rule, settings) for rule in settings.notify if rule.to]
    return Notifier(store, sinks, addresses) if sinks or addresses else None
