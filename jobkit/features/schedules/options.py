"""The option `schedule` of `@task`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobkit.features.schedules.timing import checked_rules, timing
from jobkit.model import InvalidParams

_SCHEDULE = ("cron", "every", "tz", "missed", "missed_limit", "overlap")


def schedule(name: str, value: Any) -> Mapping[str, Any]:
    """Validate the arguments of `kit.schedule`; a cron line is short for `cron=`, a number for `every=`."""
    given = value
    if isinstance(value, str):
        given = {"cron": value}
    elif not isinstance(value, Mapping):
        given = {"every": value}
    if unknown := given.keys() - set(_SCHEDULE):
        raise InvalidParams(
            f"{name} takes {', '.join(_SCHEDULE)}, not {min(map(str, unknown))!r}; schedules with an end or arguments "
            "are made with kit.schedule",
            name,
        )
    try:
        made = timing(**{each: given.get(each) for each in ("cron", "every", "tz")}, now_ms=0)
        rules = checked_rules(given.get("missed"), given.get("missed_limit"), given.get("overlap"))
    except InvalidParams as error:
        raise InvalidParams(f"{name}: {error}", name) from None
    when = {"every": made.every_ms / 1000} if made.every_ms else {"cron": made.cron}
    return {**when, **({"tz": made.tz} if made.tz != "UTC" else {}), **rules}
