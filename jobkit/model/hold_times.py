"""When a message to a person goes out: quiet hours and digests. Pure functions of the time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from jobkit.model.errors import InvalidParams
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
