"""Addresses of people: e-mail, Slack, Teams, Telegram and the other services that apprise knows.

A message is one sentence. With quiet hours or a digest it waits in the store; what waits for one address goes out
together. Addresses contain passwords: neither they nor replies of the services are logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from jobkit.features.notify.rule import NotifyRule
from jobkit.features.notify.sinks import TIMEOUT_S, DeliveryRefused, KeptSink, sentence
from jobkit.model import JobEvent, JobkitError, JobSnapshot
from jobkit.settings import Settings

#: Sentences of a digest; of more, their number.
_MOST = 50


class Message(msgspec.Struct, frozen=True):
    """A message of one sentence. `id` is that of its event, `kind` "success", "failure" or "info".

    The store keeps messages of the same time in the order of their JSON, which begins with the id.
    """

    id: str
    text: str
    kind: str = "info"


_KINDS = {"succeeded": "success", "failed": "failure"}


def message_of(event_id: str, text: str, state: str) -> bytes:
    """Return a message as the store keeps it; its kind is that of a state or event."""
    return msgspec.json.encode(Message(event_id, text, _KINDS.get(state, "info")))


def digest_of(messages: Sequence[Message]) -> Message:
    """Return one message of several."""
    if len(messages) == 1:
        return messages[0]
    lines = [message.text for message in messages[:_MOST]]
    if len(messages) > _MOST:
        lines.append(f"and {len(messages) - _MOST:,} more")
    kinds = {message.kind for message in messages}
    kind = "failure" if "failure" in kinds else kinds.pop() if len(kinds) == 1 else "info"
    return Message(messages[0].id, "\n".join(lines), kind)


class Address(KeptSink):
    """A sink that sends sentences to one address.

    Raises JobkitError: apprise is not installed, or does not understand the address.
    """

    joins = True

    def __init__(self, rule: NotifyRule, settings: Settings) -> None:
        super().__init__(rule, settings)
        self.person = rule.person
        try:
            import apprise
        except ImportError:
            raise JobkitError("to of a notify rule needs apprise: pip install 'panel-jobkit[apprise]'") from None
        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it logs parts of addresses and replies
        target = apprise.Apprise.instantiate(rule.to, suppress_exceptions=True)
        if target is None:
            scheme = rule.to.partition("://")[0]
            raise JobkitError(
                f"apprise does not understand an address {scheme[:30]}://... of a notify rule; see how it writes one "
                "of this service at https://appriseit.com"
            )
        self._apprise: Any = apprise.Apprise()
        self._apprise.add(target)
        self._form = apprise.NotifyFormat.TEXT

    def message(self, event: JobEvent, snapshot: JobSnapshot) -> bytes:
        text = " ".join(sentence(event, snapshot).split())  # a question may have lines
        return message_of(event.id, text, str(event.type))

    async def send(self, messages: Sequence[bytes]) -> None:
        await self._send(digest_of([msgspec.json.decode(raw, type=Message) for raw in messages]))

    async def _send(self, message: Message) -> None:
        title = "jobkit" if "\n" not in message.text else f"jobkit: {message.text.count(chr(10)) + 1} notifications"
        send = asyncio.to_thread(
            self._apprise.notify, message.text, title=title, notify_type=message.kind, body_format=self._form
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                is_sent = await send
        except TimeoutError:
            raise DeliveryRefused(f"it has not answered after {TIMEOUT_S:g} s") from None
        except Exception as error:  # plugins of apprise raise nearly any type, with the address in the message
            raise DeliveryRefused(f"apprise raised {type(error).__name__}", may_retry=False) from None
        if not is_sent:
            raise DeliveryRefused("the service did not accept it")
