"""The setting `notify`: rules from a file's tables, or from JSON in the environment."""

from __future__ import annotations

import json
from typing import Any

from jobkit.features.notify.rule import NotifyRule
from jobkit.model import InvalidParams


def rules(value: Any) -> tuple[NotifyRule, ...]:
    """Return the rules, checked."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise InvalidParams(f"notify is not valid JSON: {error}", "notify") from None
    if not isinstance(value, (list, tuple)):
        raise TypeError
    return tuple(rule if isinstance(rule, NotifyRule) else NotifyRule.read(rule) for rule in value)


READERS = {"notify": (rules, "a list of rules")}
