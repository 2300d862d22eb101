"""Computes slots: cron lines, intervals and single times, in a time zone, as milliseconds since the epoch.

Cron lines are read by `cronsim`, which behaves like Debian's cron. When clocks go forward, a job in the skipped hour
runs right after the gap. When they go back, a job at a fixed time runs once; one that runs every few minutes or hours
continues at its pace. Pure: the current time is an argument.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import takewhile
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from cronsim import CronSim, CronSimError

from jobkit.features.schedules.model import MISSED, OVERLAP, ScheduleSpec
from jobkit.model import InvalidParams
from jobkit.model.format import seconds_in

#: Short forms of cron lines.
MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

#: The shortest and the longest interval.
LEAST_EVERY_S, MOST_EVERY_S = 0.1, 10 * 365 * 86_400.0

_FIELDS = (
    "minute (0-59)",
    "hour (0-23)",
    "day of the month (1-31)",
    "month (1-12)",
    "day of the week (0-7, 0 is Sunday)",
)

#: Maximum number of missed slots that are counted; earlier ones are ignored.
MOST_COUNTED = 1_000

#: Maximum `missed_limit`; the jobs of missed slots are stored in one step.
MOST_MISSED = 500
MOST_RUNS = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Timing(msgspec.Struct, frozen=True):
    """Slots of a schedule. Exactly one of `cron`, `every_ms` and `at_ms` is set; see `ScheduleSpec`."""

    cron: str = ""
    every_ms: int = 0
    at_ms: int = 0
    tz: str = "UTC"
    until_ms: int = 0

    @classmethod
    def of(cls, spec: ScheduleSpec) -> Timing:
        return cls(spec.cron, spec.every_ms, spec.at_ms, spec.tz, spec.until_ms)

    @property
    def zone(self) -> tzinfo:
        return _zone(self.tz)

    @property
    def shown_zone(self) -> tzinfo:
        """The time zone, or UTC if this machine does not know it. For display only."""
        try:
            return self.zone
        except Exception:  # zoneinfo raises various exceptions for invalid names
            return UTC

    def after(self, moment_ms: int, anchor_ms: int = 0) -> int | None:
        """Return the first slot after a time, or None if there is none.

        Args:
            anchor_ms: origin of an interval's slots.
        """
        return next(self.slots(moment_ms, anchor_ms), None)

    def slots(self, moment_ms: int, anchor_ms: int = 0) -> Iterator[int]:
        """Return all slots after a time, in order."""
        slots = self._all(moment_ms, anchor_ms)
        return takewhile(lambda slot_ms: slot_ms <= self.until_ms, slots) if self.until_ms else slots

    def _all(self, moment_ms: int, anchor_ms: int) -> Iterator[int]:
        if self.at_ms:
            if self.at_ms > moment_ms:
                yield self.at_ms
        elif self.every_ms:
            n = max(1, (moment_ms - anchor_ms) // self.every_ms + 1)
            while True:
                yield anchor_ms + n * self.every_ms
                n += 1
        else:
            try:
                for at in CronSim(self.cron, datetime.fromtimestamp(moment_ms / 1000, self.zone)):
                    slot_ms = _ms(at)
                    if slot_ms > moment_ms:  # in a repeated hour the library may start with the first one
                        yield slot_ms
            except (OverflowError, ValueError):  # beyond the year 9999
                return

    def through(self, first_ms: int, now_ms: int, anchor_ms: int, limit: int) -> tuple[list[int], int]:
        """Return the newest slots from `first_ms` (itself a slot) to now, at most `limit`, and their total number.

        Counts at most `MOST_COUNTED`, so that a schedule of a machine that slept for a year is computed quickly.
        """
        if self.at_ms or first_ms > now_ms:
            return ([first_ms], 1) if first_ms <= now_ms else ([], 0)
        if self.every_ms:
            last_ms = min(now_ms, self.until_ms) if self.until_ms else now_ms
            count = max(1, (last_ms - first_ms) // self.every_ms + 1)
            return [first_ms + n * self.every_ms for n in range(max(0, count - limit), count)], min(count, MOST_COUNTED)
        window_ms = 6 * 3_600_000
        while True:
            since_ms = max(first_ms, now_ms - window_ms)
            found = [first_ms] if since_ms == first_ms else []
            for slot_ms in self.slots(since_ms, anchor_ms):
                if slot_ms > now_ms:
                    break
                found.append(slot_ms)
            if since_ms == first_ms or len(found) >= max(limit, MOST_COUNTED):
                return found[-limit:], min(len(found), MOST_COUNTED)
            window_ms *= 2


def timing(
    *, cron: Any = None, every: Any = None, at: Any = None, tz: Any = None, until: Any = None, now_ms: int
) -> Timing:
    """Return a validated timing from user input.

    Args:
        cron: five fields or a short form like "@daily". every: seconds, a `timedelta` or a text like "5m".
        at, until: a datetime or ISO 8601 text.
        tz: name of a time zone, for `cron` and for times without one. Default: UTC for cron, this machine's zone for
            times.

    Raises:
        InvalidParams: not exactly one of cron, every and at is given, or there is no slot after `now_ms`.
    """
    given = [name for name, value in (("cron", cron), ("every", every), ("at", at)) if value is not None]
    if len(given) != 1:
        said = f"{' and '.join(given)} are" if given else "none is"
        raise InvalidParams(
            f'a schedule needs exactly one of cron="*/5 * * * *", every=30 (seconds) and at=datetime; {said} given',
            given[-1] if given else "cron",
        )
    zone = checked_zone(tz) if tz is not None else "UTC"
    end_ms = _moment("until", until, zone if tz is not None else None) if until is not None else 0
    if end_ms and end_ms <= now_ms:
        raise InvalidParams(f"until must lie in the future, not at {_shown(end_ms, zone)}", "until")
    if every is not None:
        made = Timing(every_ms=_every_ms(every), tz=zone, until_ms=end_ms)
    elif at is not None:
        made = Timing(at_ms=_moment("at", at, zone if tz is not None else None), tz=zone, until_ms=end_ms)
        if made.at_ms <= now_ms:
            raise InvalidParams(f"at must lie in the future, not at {_shown(made.at_ms, zone)}", "at")
    else:
        made = Timing(cron=checked_cron(cron), tz=zone, until_ms=end_ms)
    if made.after(now_ms, now_ms) is None:
        raise InvalidParams(f"the schedule ends before its first run: until is {_shown(end_ms, zone)}", "until")
    return made


def checked_cron(line: Any) -> str:
    """Return a cron line with single spaces and without short forms.

    Raises:
        InvalidParams: not valid, or it never fires; the message names the wrong field and what is allowed.
    """
    text = " ".join(line.split()) if isinstance(line, str) else ""
    text = MACROS.get(text.lower(), text)
    parts = text.split()
    if len(parts) != 5 or len(text) > 500:
        more = f", or one of {', '.join(MACROS)}" if text.startswith("@") else ""
        more = "; for seconds use every=" if len(parts) == 6 else more
        raise InvalidParams(
            f'cron must be a line of five fields (minute hour day month weekday), like "*/5 * * * *"{more}, not '
            f"{_cut(line)}",
            "cron",
        )
    for n, (part, meaning) in enumerate(zip(parts, _FIELDS, strict=True)):
        alone = ["*"] * 5
        alone[n] = part
        try:
            CronSim(" ".join(alone), _EPOCH)
        except (CronSimError, ValueError, AssertionError, TypeError):
            raise InvalidParams(f"cron {_cut(text)}: {part[:60]!r} is no {meaning}", "cron") from None
    try:
        if next(CronSim(text, _EPOCH), None) is not None:
            return text
    except (CronSimError, ValueError, TypeError):
        pass  # valid fields, but no such day exists
    raise InvalidParams(f"cron {_cut(text)} never fires: there is no such day", "cron")


def checked_zone(name: Any) -> str:
    """Return the name of a time zone.

    Raises:
        InvalidParams: unknown name; the message suggests similar ones.
    """
    if isinstance(name, ZoneInfo):
        name = name.key
    if name in (UTC, "UTC", "utc", "Z"):
        return "UTC"
    try:
        _zone(name)
    except Exception:  # zoneinfo raises various exceptions for invalid names
        known = available_timezones()
        hint = _close_zones(str(name), known)
        if not known:
            hint = "; this machine has no time zones: install tzdata"
        raise InvalidParams(
            f'tz must be the name of a time zone, like "Europe/Berlin" or "UTC", not {_cut(name)}{hint}', "tz"
        ) from None
    return str(name)


#: Names of the rules, see `checked_rules`.
RULES = ("missed", "missed_limit", "overlap")


def checked_rules(missed: Any = None, missed_limit: Any = None, overlap: Any = None) -> dict[str, Any]:
    """Return the given rules as fields of `ScheduleSpec`.

    Raises:
        InvalidParams: a value is not allowed; the message lists the allowed ones.
    """
    rules: dict[str, Any] = {}
    for name, value, allowed in (("missed", missed, MISSED), ("overlap", overlap, OVERLAP)):
        if value is not None:
            if value not in allowed:
                raise InvalidParams(f"{name} must be one of {', '.join(allowed)}, not {value!r}"[:300], name)
            rules[name] = str(value)
    if missed_limit is not None:
        rules["missed_limit"] = _whole("missed_limit", missed_limit, MOST_MISSED)
    return rules


def checked_count(value: Any) -> int:
    """Return the maximum number of runs; 0 for no limit if `value` is None.

    Raises:
        InvalidParams: not a whole number from 1.
    """
    return 0 if value is None else _whole("count", value, MOST_RUNS)


def _whole(name: str, value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidParams(f"{name} must be a whole number from 1 to {most}, not {value!r}"[:300], name)
    return value


def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)


def _close_zones(name: str, known: set[str]) -> str:
    """Return "", or " (did you mean 'Europe/Berlin'?)" with zones whose name or city is similar."""
    import difflib

    by_fold = {zone.lower(): zone for zone in known}
    by_city = {zone.rpartition("/")[2].lower(): zone for zone in sorted(known, reverse=True)}
    wanted = name.strip().lower().replace(" ", "_")
    found = [by_fold[each] for each in difflib.get_close_matches(wanted, by_fold, n=2, cutoff=0.75)]
    city = wanted.rpartition("/")[2]
    found += [by_city[each] for each in difflib.get_close_matches(city, by_city, n=2, cutoff=0.8)]
    close = list(dict.fromkeys(found))[:3]
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


def _every_ms(value: Any) -> int:
    number = seconds_in(value)
    if number is None or not LEAST_EVERY_S <= number <= MOST_EVERY_S:
        raise InvalidParams(
            f"every must be a number of seconds (from {LEAST_EVERY_S:g} to ten years), a timedelta or a text like "
            f'"90s", "12h", "7d", not {_cut(value)}',
            "every",
        )
    return round(float(number) * 1000)


def _moment(name: str, value: Any, zone: str | None) -> int:
    at = value
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            at = None
    if not isinstance(at, datetime):
        raise InvalidParams(
            f"{name} must be a datetime or ISO 8601 text like 2026-11-24T16:30, not {_cut(value)}", name
        )
    if at.tzinfo is None:
        at = at.astimezone() if zone is None else at.replace(tzinfo=_zone(zone))
    try:
        return _ms(at)
    except (OverflowError, ValueError):
        raise InvalidParams(f"{name} must be a moment that a calendar has, not {_cut(value)}", name) from None


def _ms(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(milliseconds=1)


def _shown(ms: int, zone: str) -> str:
    return datetime.fromtimestamp(ms / 1000, _zone(zone)).isoformat(sep=" ", timespec="minutes")


def _cut(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
