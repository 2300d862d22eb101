"""The saved views of a user in the menu of the list of jobs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from jobkit.client.loop import background
from jobkit.features.views.store import NAME_CHARS, SavedView, ViewStore
from jobkit.model import JobkitError
from jobkit.model.person import Role
from jobkit.model.plain import dumps
from jobkit.ui.access.actions import ActionCall, Actions, Do, action, each, own_name

REQUESTS = ("views", "save_view", "rename_view", "delete_view")

#: Views that everybody has.
READY = (
    SavedView("Failed since yesterday", "state:failed since:yesterday", "-changed"),
    SavedView("Waiting longest", "state:waiting", "submitted"),
    SavedView("Running longest", "state:running", "started"),
)


class ViewsMenu:
    """Requests of the menu in one session.

    Args:
        access: of the session.
        put: gets a JSON text: `views` of the user, `ready` ones, `may` (whether they can be saved), and `problem`, the
            sentence about what did not work.
    """

    def __init__(self, access: Actions, put: Callable[[str], object]) -> None:
        self._access, self._put = access, put

    async def do(self, asked: Mapping[str, Any]) -> None:
        """Save, rename or delete a view, if that is asked for; then send the views as they are now."""
        request, person, problem = asked["action"], self._access.person, ""
        if request != "views":
            name = str(asked.get("name", "")).strip()[: NAME_CHARS + 1]
            texts = {key: str(asked.get(key, "")) for key in ("to", "search", "order", "hidden")}
            problem = (await self._access.act(request, [name], **texts)).problem
        views: list[SavedView] = []
        try:
            views = await self._access.kit.verbs.store.part(ViewStore).of(own_name(person))
        except JobkitError as error:
            problem = problem or str(error)
        mine = [SavedView("Mine", f'owner:"{person.name}"')] if person.name and person.sees_all else []
        told = {"views": views, "ready": [*READY, *mine], "may": not person.only_looks}
        self._put(dumps({**told, "problem": problem}))


form = ViewsMenu


def _change(what: str) -> Do:
    """Make the action that saves, renames (`to`) or deletes a view of this person."""

    async def do(call: ActionCall, name: str) -> None:
        views, user, texts = call.kit.verbs.store.part(ViewStore), own_name(call.person), call.details
        if call.person.only_looks:
            raise JobkitError("this page only shows: a view cannot be saved here; its address has all of it")
        wanted: Coroutine[Any, Any, object]
        if what == "save":
            wanted = views.put(user, SavedView(name, texts["search"], texts["order"], texts["hidden"]))
        elif what == "rename":
            wanted = views.rename(user, name, texts["to"].strip())
        else:
            wanted = views.delete(user, name)
        await background.call_async(wanted)

    return each(do)


for _what in ("save", "rename", "delete"):  # of everybody who may look
    action(f"{_what}_view", _change(_what), f"{_what}d", on="view", least=Role.VIEW, own_too=True)
