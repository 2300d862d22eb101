"""Groups of failed jobs in the store; see `lua/lib/failures.lua` beside this file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from jobkit.features.failures.group import FailureGroup
from jobkit.store import wire
from jobkit.store.namespace import StorePart
from jobkit.store.redis import RedisStore

#: Number of groups that are read at a time.
_CHUNK = 200


class FailureStore(StorePart):
    """Verbs for groups of failed jobs: the same exception at the same place in one task."""

    async def groups(self, states: Sequence[str] = (), task: str = "", limit: int = 100) -> list[FailureGroup]:
        """Return groups in any of these states (empty: all) and of this task, the last failure first."""
        found: list[FailureGroup] = []
        start = 0
        while len(found) < limit:
            ids = await self._ns.ask("ZREVRANGE", "groups", start, start + _CHUNK - 1)
            if not ids:
                break
            groups = await self._groups([wire.text(id) for id in ids])
            gone = [id for id, group in zip(ids, groups, strict=True) if group is None]
            if gone:  # expired, or damaged
                await self._ns.ask("ZREM", "groups", *gone)
            found += [
                group
                for group in groups
                if group is not None and (not states or group.state in states) and task in ("", group.task)
            ]
            start += len(ids) - len(gone)
        return found[:limit]

    async def group(self, group: str) -> FailureGroup | None:
        return (await self._groups([group]))[0]

    async def _groups(self, ids: Sequence[str]) -> list[FailureGroup | None]:
        replies = await self._ns.many(
            [
                command
                for id in ids
                for command in (
                    ("HGETALL", f"group:{id}"),
                    ("ZCARD", f"failed:{id}"),
                    ("SCARD", f"again:{id}"),
                    ("SCARD", f"healed:{id}"),
                )
            ]
        )
        now_ms = await self._ns.now_ms()
        return [
            self._ns.readable(
                f"group:{id}",
                partial(FailureGroup.from_wire, id, jobs=jobs, repeated=repeated, healed=healed, now_ms=now_ms),
                wire.texts(record),
            )
            for id, record, jobs, repeated, healed in zip(ids, *(replies[part::4] for part in range(4)), strict=True)
        ]

    async def jobs(
        self,
        group: str,
        *,
        before: str = "",
        limit: int = 100,
        oldest_first: bool = False,
        is_repeated: bool | None = None,
        until: float | None = None,
    ) -> tuple[list[str], str]:
        """Return ids of a group's jobs, the last failure first, and the cursor `before` of the next page, or "".

        Args:
            is_repeated: only jobs that were retried, or only those that were not.
            until: with `oldest_first`, only jobs that failed up to this time (us).
        """
        found: list[str] = []
        cursor = before
        command, end = (
            ("ZRANGEBYSCORE", "+inf" if until is None else until) if oldest_first else ("ZREVRANGEBYSCORE", "-inf")
        )
        while len(found) < limit:
            bound = f"({cursor}" if cursor else ("-inf" if oldest_first else "+inf")
            page = await self._ns.ask(command, f"failed:{group}", bound, end, "WITHSCORES", "LIMIT", 0, limit)
            if not page:
                return found, ""
            marks = await self._ns.ask("SMISMEMBER", f"again:{group}", *(id for id, _ in page))
            for (id, us), mark in zip(page, marks, strict=True):
                cursor = f"{us:.0f}"
                if is_repeated is None or bool(mark) == is_repeated:
                    found.append(id.decode("utf-8", "replace"))
                    if len(found) == limit:
                        break
        return found, cursor

    async def judge(self, groups: Sequence[str], state: str, by: str = "") -> list[bool]:
        """Set the status of groups ("open", "muted", "resolved"), or delete those without jobs ("dropped").

        True for known groups. `by` is the user.
        """
        return [known == 1 for known in await self._ns.run_each("judge", groups, wire.options(state=state, by=by))]

    async def groups_of(self, job_ids: Sequence[str]) -> list[str]:
        """Return the group of each job, or ""."""
        found = await self._ns.ask("HMGET", "failed", *job_ids) if job_ids else []
        return [wire.text(group) for group in found]


async def read_newest(store: RedisStore) -> None:
    """Read the newest records, which finds damaged ones."""
    await store.part(FailureStore).groups()
