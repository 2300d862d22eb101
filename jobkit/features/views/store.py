"""Saved views of users."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from jobkit.model import InvalidParams
from jobkit.store.grammar import MAX_CHARS
from jobkit.store.namespace import StorePart
from jobkit.store.query import ORDERS

#: Views of a user, characters of a name and of the names of hidden columns, at most.
MOST, NAME_CHARS, HIDDEN_CHARS = 50, 60, 200

#: Seconds that the views of a user are kept after the last change.
_KEPT_S = 2 * 365 * 86_400


class SavedView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A saved view. `hidden` names columns, joined by commas."""

    name: str
    search: str = ""
    order: str = ""
    hidden: str = ""

    def checked(self) -> SavedView:
        """Return this view. Raises InvalidParams if a value is not allowed."""
        if not self.name.strip() or len(self.name) > NAME_CHARS or not self.name.isprintable():
            raise InvalidParams(f"the name of a view must have 1 to {NAME_CHARS} characters, not {self.name!r}", "name")
        if len(self.search) > MAX_CHARS:
            raise InvalidParams(f"the search of a view has at most {MAX_CHARS} characters", "search")
        if self.order and self.order.removeprefix("-") not in ORDERS:
            raise InvalidParams(f"the order of a view must be one of {', '.join(ORDERS)}, not {self.order!r}", "order")
        if len(self.hidden) > HIDDEN_CHARS:
            raise InvalidParams(f"the hidden columns of a view have at most {HIDDEN_CHARS} characters", "hidden")
        return self


_read = msgspec.json.Decoder(SavedView).decode


class ViewStore(StorePart):
    """Verbs for saved views."""

    async def of(self, user: str) -> list[SavedView]:
        """Return the views of a user, by name."""
        found = await self._ns.ask("HGETALL", _key(user))
        views = self._ns.all_readable(_key(user), lambda _, raw: _read(raw), found.items())
        return sorted(views, key=lambda view: view.name.lower())

    async def put(self, user: str, view: SavedView) -> None:
        """Store a view, which replaces that of the same name.

        Raises:
            InvalidParams: a value is not allowed, or the user has too many views.
        """
        view.checked()
        names = {each.name for each in await self.of(user)}
        if len(names - {view.name}) >= MOST:
            raise InvalidParams(f"a user has at most {MOST} views; delete one first", "name")
        await self._write(user, ("HSET", _key(user), view.name, _text(view)))

    async def rename(self, user: str, name: str, new: str) -> None:
        """Give a view another name.

        Raises:
            InvalidParams: there is no view of that name, or one of the new name, or that is not allowed.
        """
        views = {view.name: view for view in await self.of(user)}
        if name not in views:
            raise InvalidParams(f"there is no view {name!r} any more", "name")
        view = replace(views[name], name=new).checked()
        if new in views and new != name:
            raise InvalidParams(f"there is a view {new!r} already", "name")
        await self._write(user, ("HDEL", _key(user), name), ("HSET", _key(user), new, _text(view)))

    async def _write(self, user: str, *commands: tuple[object, ...]) -> None:
        await self._ns.many([*commands, ("EXPIRE", _key(user), _KEPT_S)], is_atomic=True)

    async def delete(self, user: str, name: str) -> bool:
        """Delete a view. False if there is none of that name."""
        return bool(await self._ns.ask("HDEL", _key(user), name))


def _text(view: SavedView) -> str:
    return msgspec.json.encode(view).decode()


def _key(user: str) -> str:
    return f"views:{user}"
