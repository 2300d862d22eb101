"""The button "Tell me" of a card: the person gets a message when the job or batch has ended.

It goes to the addresses that the settings of the workers have for this person. So a browser can only say whether, never
where to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from jobkit.client.checks import unknown_job
from jobkit.client.loop import background
from jobkit.features import modules
from jobkit.features.notify.store import ToldStore
from jobkit.model import JobkitError
from jobkit.model.person import Person, Role
from jobkit.ui.access.actions import ActionCall, Actions, action, each, own_name


async def about(access: Actions, id: str) -> Mapping[str, str]:
    """Return the card's text "told": "told", "offer", or "" if this person has no address or may not ask."""
    person = _reader(access.person)
    if not id or not person or not access.may("tell"):
        return {"told": ""}
    try:
        return {"told": await access.kit.verbs.store.part(ToldStore).state(id, person)}
    except JobkitError:
        return {"told": ""}


def _reader(person: Person) -> str:
    """Return the name of the user who gets the messages; "" for a nameless visitor and on a page that only shows."""
    return "" if person.only_looks else own_name(person)


async def _tell(call: ActionCall, id: str, has_ended: Callable[[], Any]) -> None:
    person, told = _reader(call.person), call.kit.verbs.store.part(ToldStore)

    async def do() -> None:
        if call.details.get("on") is False:
            await told.unwant(id, person)
            return
        if not person or not await told.state(id, person):
            raise JobkitError(f"the settings of the workers have no address of {person or 'a user without a name'}")
        await told.want(id, person)
        try:
            if await has_ended():  # after the wish was stored: a later end finds it
                raise JobkitError(f"{id[:8]} has already ended")
        except JobkitError:
            await told.unwant(id, person)
            raise

    await background.call_async(do())
    call.done = "put on the list of your messages" if call.details.get("on") is not False else "taken off it"


async def _tell_job(call: ActionCall, job_id: str) -> None:
    async def has_ended() -> bool:
        (job,) = await call.kit.verbs.store.snapshots([job_id])
        if job is None:
            raise unknown_job(job_id)
        return job.is_terminal

    await _tell(call, job_id, has_ended)


def _tell_group(told: Any) -> Callable[[ActionCall, str], Awaitable[None]]:
    async def tell(call: ActionCall, group: str) -> None:
        await _tell(call, group, partial(told.has_ended, call.kit.verbs.store, group, call.person))

    return tell


action("tell", each(_tell_job), "told", least=Role.VIEW)
for _told in modules("told"):
    action(f"tell_{_told.NOUN}", each(_tell_group(_told)), "told", on=_told.NOUN, least=Role.VIEW, own_too=True)
