"""From settings to a notifier with its sinks."""

from __future__ import annotations

from jobkit.notify.notifier import Command, NotificationSink, Notifier, Webhook
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore


def notifier_of(settings: Settings, store: RedisStore) -> Notifier | None:
    """Return the notifier of these settings, or None. Raises JobkitError: a library of a sink is not installed."""
    sinks: list[NotificationSink] = [
        Command(rule) if rule.command else Webhook(rule) for rule in settings.notify if not rule.to
    ]
    if settings.otel:
        from jobkit.notify.otel import Telemetry

        sinks.append(Telemetry(settings.namespace))
    if settings.mlflow:
        from jobkit.notify.mlflow import MlflowRuns

        sinks.append(MlflowRuns(settings.mlflow, store))
    if rules := [rule for rule in settings.notify if rule.to]:
        from jobkit.notify.addresses import Address
        from jobkit.notify.personal import PersonalNotifier

        return PersonalNotifier(store, sinks, [Address(rule, settings, store) for rule in rules])
    return Notifier(store, sinks) if sinks else None
