"""Selections of jobs under a short name, for the address of a page: a stream whose newest entries are kept."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

from jobkit.model.plain import now_ms
from jobkit.store.namespace import StorePart

#: Jobs of one selection, at most.
MOST_SELECTED = 1_000

#: Selections that are kept, at most.
_KEPT_MOST = 500

#: Milliseconds that a selection is kept (90 days).
_KEPT_MS = 90 * 86_400_000

#: Characters of an id, at most: a browser may say anything.
_ID_MOST = 200

#: Bytes of the ids of a selection, at most.
_MOST_BYTES = 250_000

_KEY = "selections"
_NAME = re.compile(r"([0-9a-z]{1,10})(?:-([0-9a-z]{1,6}))?", re.ASCII)
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class SelectionStore(StorePart):
    """Verbs for selections. Every verb may raise `StoreUnavailable`."""

    async def keep(self, job_ids: Sequence[str]) -> str:
        """Keep a selection of jobs, at most `MOST_SELECTED`, and return its name: about eight letters and digits.

        It is deleted after 90 days, or when 500 newer ones are kept.
        """
        kept = [each for each in job_ids[:MOST_SELECTED] if len(each) <= _ID_MOST and each.isascii()]
        packed = zlib.compress(",".join(kept).encode())
        entry, *_ = await self._ns.many(
            [
                ("XADD", _KEY, "MAXLEN", _KEPT_MOST, "*", "ids", packed),
                ("XTRIM", _KEY, "MINID", "~", now_ms() - _KEPT_MS),
                ("PEXPIRE", _KEY, _KEPT_MS),
            ]
        )
        at, _, n = entry.decode().partition("-")
        return "-".join(_in_letters(int(part)) for part in (at, n) if part != "0")

    async def read(self, name: str) -> list[str]:
        """Return the ids of a selection; [] if it is not kept, or no longer."""
        if (match := _NAME.fullmatch(name)) is None:
            return []
        entry = f"{int(match[1], 36)}-{int(match[2] or '0', 36)}"
        found = await self._ns.ask("XRANGE", _KEY, entry, entry)
        return (
            [] if not found else zlib.decompressobj().decompress(found[0][1][b"ids"], _MOST_BYTES).decode().split(",")
        )


def _in_letters(value: int) -> str:
    """Return a number in base 36, which `int(text, 36)` reads."""
    text = _DIGITS[value % 36]
    while value := value // 36:
        text = _DIGITS[value % 36] + text
    return text
