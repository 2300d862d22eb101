"""Selections of jobs under short names, for the address of a page."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

from jobkit.model.plain import now_ms
from jobkit.store.namespace import StorePart

#: Jobs of a selection, or of a search, at most.
MOST_SELECTED = 1_000

#: Selections that are kept, at most.
_KEPT_MOST = 500

#: Milliseconds that a selection is kept (90 days).
_KEPT_MS = 90 * 86_400_000

#: Characters of an id, at most: a browser may say anything.
_ID_MOST = 200

#: Bytes of the ids of a selection, at most.
_MOST_BYTES = 250_000

_SELECTIONS = "selections"
_NAME = re.compile(r"([0-9a-f]{1,12})(?:-([0-9a-f]{1,6}))?")


class SelectionStore(StorePart):
    """Verbs for selections. Every verb may raise `StoreUnavailable`."""

    async def keep(self, job_ids: Sequence[str]) -> str:
        """Keep a selection of jobs, at most `MOST_SELECTED`, and return its name: eleven hex digits.

        It is deleted after 90 days, or when 500 newer ones are kept.
        """
        kept = [each for each in job_ids[:MOST_SELECTED] if len(each) <= _ID_MOST and each.isascii()]
        packed = zlib.compress(",".join(kept).encode())
        entry, *_ = await self._ns.many(
            [
                ("XADD", _SELECTIONS, "MAXLEN", _KEPT_MOST, "*", "ids", packed),
                ("XTRIM", _SELECTIONS, "MINID", "~", now_ms() - _KEPT_MS),
                ("PEXPIRE", _SELECTIONS, _KEPT_MS),
            ]
        )
        at, _, n = entry.decode().partition("-")
        return "-".join(f"{int(part):x}" for part in (at, n) if part != "0")

    async def read(self, name: str) -> list[str]:
        """Return the ids of a selection; [] if it is not kept, or no longer."""
        if (match := _NAME.fullmatch(name)) is None:
            return []
        entry = f"{int(match[1], 16)}-{int(match[2] or '0', 16)}"
        found = await self._ns.ask("XRANGE", _SELECTIONS, entry, entry)
        return (
            [] if not found else zlib.decompressobj().decompress(found[0][1][b"ids"], _MOST_BYTES).decode().split(",")
        )
