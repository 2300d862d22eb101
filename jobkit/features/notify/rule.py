"""Rules of notifications: which webhook, command or address gets which events, and when messages to a person go out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, time, timedelta
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from jobkit.model import EventType, InvalidParams
from jobkit.model.events import kinds_of
from jobkit.model.format import seconds_in

_DAY = timedelta(days=1)
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class HoldTimes:
    """The times at which messages may go out.

    Attributes:
        quiet: begin and end of the quiet hours, or None. If the begin is later than the end, they last over midnight.
        daily: time of the daily digest, or None.
        every: interval of the digests from midnight on; 0 for none.
        zone: time zone of these; None for that of this machine.
    """

    quiet: tuple[time, time] | None = None
    daily: time | None = None
    every: timedelta = timedelta()
    zone: ZoneInfo | None = None

    @classmethod
    def read(cls, quiet: str = "", digest: str = "", tz: str = "") -> HoldTimes:
        """Return the times of texts like "22:00-07:00", "1h" or "09:00", "Europe/Berlin". Raises InvalidParams."""
        begin, _, end = (part.strip() for part in quiet.partition("-"))
        if quiet and (not (_TIME.fullmatch(begin) and _TIME.fullmatch(end)) or _time(begin) == _time(end)):
            raise InvalidParams(
                f'quiet of a notify rule must be two times of day like "22:00-07:00", not {quiet!r}', "notify"
            )
        is_daily = bool(_TIME.fullmatch(digest))
        seconds = 0.0 if is_daily or not digest else seconds_in(digest)
        if seconds is None or (digest and not is_daily and not 60 <= seconds <= 86_400):
            raise InvalidParams(
                f'digest of a notify rule must be "1m" to "24h", or a time of day like "09:00", not {digest!r}',
                "notify",
            )
        try:
            zone = ZoneInfo(tz) if tz else None
        except Exception:  # zoneinfo raises various exceptions for invalid names
            raise InvalidParams(
                f'tz of a notify rule must be a time zone like "Europe/Berlin", not {tz!r}', "notify"
            ) from None
        return cls(
            (_time(begin), _time(end)) if quiet else None,
            _time(digest) if is_daily else None,
            timedelta(seconds=seconds),
            zone,
        )

    def until(self, now: datetime) -> datetime:
        """Return when a message of this moment goes out: `now`, or a later time."""
        wall = at = now.astimezone(self.zone).replace(tzinfo=None)
        midnight = wall.replace(hour=0, minute=0, second=0, microsecond=0)
        if self.daily is not None:
            at = _next(wall, self.daily)
        elif self.every:
            at = min(midnight + ((wall - midnight) // self.every + 1) * self.every, midnight + _DAY)
        if self.quiet is not None and _is_within(at.time(), *self.quiet):
            at = _next(at, self.quiet[1])
        if at == wall:
            return now
        at = at.replace(fold=wall.fold)  # in an hour that the clock shows twice: the same of the two
        moment = at.astimezone() if self.zone is None else at.replace(tzinfo=self.zone)
        return max(now, moment.astimezone(UTC))


def _time(text: str) -> time:
    hour, _, minute = text.partition(":")
    return time(int(hour), int(minute))


def _next(wall: datetime, at: time) -> datetime:
    """Return the next time on the clock after `wall`."""
    today = datetime.combine(wall.date(), at)
    return today if today > wall else today + _DAY


def _is_within(at: time, begin: time, end: time) -> bool:
    return begin <= at < end if begin < end else at >= begin or at < end


@dataclass(frozen=True, slots=True)
class NotifyRule:
    """One webhook, command or address, and the events that it gets.

    Attributes:
        on: event types; of a rule with a `person` none, unless given. task, queue, owner: patterns of names
            ("train_*").
        url: address that receives JSON by POST, or "". command: program and arguments; it gets the JSON on standard
            input.
        to: address that apprise understands ("mailto://...", "slack://..."), or "".
        person: name of the user whose address `to` is, or "" for none: it gets the events of this user's jobs,
            and those that they ask for by "Tell me".
        quiet, digest, tz: when messages to the address go out, see `HoldTimes`.
        secret: key of the signature in the webhook header `X-Jobkit-Signature`, or "" for none.
    """

    on: frozenset[EventType] = frozenset({EventType.FAILED})
    task: str = "*"
    queue: str = "*"
    owner: str = "*"
    url: str = ""
    command: tuple[str, ...] = ()
    secret: str = field(default="", repr=False)
    to: str = field(default="", repr=False)
    person: str = ""
    quiet: str = ""
    digest: str = ""
    tz: str = ""

    @classmethod
    def read(cls, wanted: object) -> NotifyRule:
        """Return the rule that a settings file describes, checked."""
        known = [f.name for f in fields(cls)]
        if not isinstance(wanted, Mapping):
            raise InvalidParams(f"a notify rule is a table of {', '.join(known)}, not {wanted!r}", "notify")
        values: dict[str, Any] = dict(wanted)
        for name in values:
            if name not in known:
                raise InvalidParams(f"unknown key {name!r} in a notify rule; allowed are {', '.join(known)}", "notify")
        on = values.pop("on", () if "person" in values else "failed")
        command = values.pop("command", ())
        for name, value in values.items():
            if not isinstance(value, str) or not value:
                shown = type(value).__name__ if name in ("to", "url", "secret") else repr(value)  # these are secret
                raise InvalidParams(f"{name} of a notify rule must be text, not {shown}", "notify")
        if isinstance(command, str) or not all(isinstance(part, str) and part for part in command):
            raise InvalidParams(
                f'command of a notify rule is a list of program and arguments, like ["notify-send", "done"], '
                f"not {command!r}",
                "notify",
            )
        kinds = frozenset[EventType]() if on == () else kinds_of([on] if isinstance(on, str) else list(on))
        rule = cls(kinds, command=tuple(command), **values)
        if bool(rule.url) + bool(rule.command) + bool(rule.to) != 1:
            raise InvalidParams("a notify rule has either a url or a command, or to with an address", "notify")
        if rule.to and not (urlsplit(rule.to.partition("?")[0]).scheme and "://" in rule.to):
            raise InvalidParams('to of a notify rule must be an address like "slack://..." or "mailto://..."', "notify")
        for name in ("person", "quiet", "digest", "tz"):
            if getattr(rule, name) and not rule.to:
                raise InvalidParams(f"{name} of a notify rule needs to, an address", "notify")
        _ = rule.times
        if rule.url and (urlsplit(rule.url).scheme not in ("http", "https") or not urlsplit(rule.url).hostname):
            raise InvalidParams(f"url of a notify rule must be http:// or https://, not {rule.url[:60]!r}", "notify")
        return rule

    def wants(self, task: str, queue: str, owner: str) -> bool:
        """Return True if the rule applies to a job with these attributes."""
        if self.person and owner != self.person:
            return False
        return fnmatchcase(task, self.task) and fnmatchcase(queue, self.queue) and fnmatchcase(owner, self.owner)

    @property
    def times(self) -> HoldTimes:
        """When messages to `to` go out."""
        return HoldTimes.read(self.quiet, self.digest, self.tz)

    @property
    def name(self) -> str:
        """Name for log lines. Not the URL or address, parts of which are secret."""
        if self.to:
            service = self.to.partition("://")[0]
            return f"{self.person} by {service}" if self.person else service
        return self.command[0] if self.command else str(urlsplit(self.url).hostname)
