"""`SavedViews`: the saved views of a user, and what the menu of the jobs page does with them.

They are kept by user in the store, not by browser: so they are there on every machine, and go with the user's login.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jobkit.client.loop import background
from jobkit.model import JobkitError
from jobkit.model.plain import dumps
from jobkit.store.views import NAME_CHARS
from jobkit.ui.access.actions import ActionReply, Actions, own_name

#: Views that everybody has: name, search and order.
READY = (
    ("Failed since yesterday", "state:failed since:yesterday", "-changed"),
    ("Waiting longest", "state:waiting", "submitted"),
    ("Running longest", "state:running", "started"),
)


class SavedViews:
    """The menu of one session.

    Args:
        access: of the session.
        show: gets a JSON text in any thread: `views` of the user, `ready` ones, `may` (whether they can be saved), and
            `problem`, the sentence about what did not work.
    """

    def __init__(self, access: Actions, show: Callable[[str], object]) -> None:
        self._access, self._show = access, show

    def do(self, action: str, asked: Mapping[str, Any], view: Mapping[str, str]) -> bool:
        """Handle a request of the browser. Return False for a request about anything else.

        Args:
            view: what a view of the page as it is now has, see `SavedView`.
        """
        name = str(asked.get("name", "")).strip()[: NAME_CHARS + 1]
        if action == "views":
            background.spawn(self._read())
        elif action == "save_view":
            self._access.begin(action, [name], self._acted, view=dict(view))
        elif action == "rename_view":
            self._access.begin(action, [name], self._acted, to=str(asked.get("to", ""))[: NAME_CHARS + 1])
        elif action == "delete_view":
            self._access.begin(action, [name], self._acted)
        else:
            return False
        return True

    def _acted(self, reply: ActionReply) -> None:
        background.spawn(self._read(reply.problem))

    async def _read(self, problem: str = "") -> None:
        """On the background loop: show the views as they are now."""
        person = self._access.person
        views: list[list[str]] = []
        try:
            found = await self._access.kit.verbs.store.views.of(own_name(person))
            views = [[view.name, view.search, view.order, view.hidden] for view in found]
        except JobkitError as error:
            problem = problem or str(error)
        mine = [("Mine", f'owner:"{person.name}"', "")] if person.name and person.sees_all else []
        ready = [[*each, ""] for each in (*READY, *mine)]
        self._show(dumps({"views": views, "ready": ready, "may": not person.only_looks, "problem": problem}))
