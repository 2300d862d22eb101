"""Messages to addresses of people: "Tell me" for a job and a batch, digests, and no address from a browser."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from jobkit.client.loop import background
from jobkit.features.notify.addresses import Address, Message, digest_of
from jobkit.features.notify.notifier import Notifier
from jobkit.features.notify.reader import about
from jobkit.features.notify.rule import NotifyRule
from jobkit.features.notify.sinks import DeliveryRefused
from jobkit.features.notify.store import ToldStore
from jobkit.model import EventType, InvalidParams, JobEvent, JobkitError, JobSnapshot, JobSpec, JobState
from jobkit.model.person import Person, Role
from jobkit.model.plain import to_ms
from jobkit.settings import Settings, user_name
from jobkit.ui.access.actions import ActionReply, Actions
from tests.support import wait_until
from tests.worker.conftest import Bench
from tests.worker.receiver import Receiver

pytest.importorskip("apprise")
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # apprise imports it


def told(receiver: Receiver) -> list[str]:
    return [json.loads(body)["message"] for body in receiver.bodies]


def act(
    bench: Bench, name: str, target: str, person: str = "ada", role: Role = Role.VIEW, **details: object
) -> ActionReply:
    return asyncio.run(Actions(bench.kit, Person(person, role)).act(name, [target], **details))


def snapshot_of(owner: str, id: str = "x") -> JobSnapshot:
    return JobSnapshot(JobSpec(id, "len", owner=owner), 1, JobState.FAILED)


def state(bench: Bench, id: str, person: str = "ada") -> str:
    return background.call(about(Actions(bench.kit, Person(person, Role.VIEW)), id))["told"]


def test_people_get_a_message_when_the_job_and_the_batch_that_they_have_chosen_end(bench: Bench) -> None:
    with Receiver() as receiver:
        address = receiver.url.replace("http://", "json://")
        bench.worker(JOBKIT_NOTIFY=json.dumps([{"person": "ada", "to": f"{address}?secret=hidden-word"}]))
        later = bench.kit.options(delay=3600)
        other, job, kept = later.submit(len, "other"), later.submit(len, "abc"), later.submit(len, "kept")
        batch = later.map(len, ["a", "bc"])
        wait_until(lambda: state(bench, job.id) == "offer", what="the worker to store the people with an address")

        assert act(bench, "tell", job.id).is_ok
        assert act(bench, "tell_batch", batch.id).is_ok
        assert act(bench, "tell", kept.id).is_ok
        assert act(bench, "tell", kept.id, on=False).is_ok
        assert (state(bench, job.id), state(bench, batch.id), state(bench, kept.id)) == ("told", "told", "offer")
        assert "have no address of eve" in act(bench, "tell", job.id, person="eve").sentence
        for each in (other, kept, job):
            each.cancel()
        batch.cancel()

        wait_until(lambda: len(receiver.bodies) == 2, what="both messages")
        assert "already ended" in act(bench, "tell", job.id).sentence

    assert told(receiver)[0].endswith(f"cancelled (job {job.id[:8]})")
    assert told(receiver)[1] == f"len has ended: 2 cancelled (batch {batch.id[:8]})"
    assert "hidden-word" not in bench.said()
    assert "/hook" not in bench.said()


def test_an_address_with_two_rules_gets_a_message_once(bench: Bench) -> None:
    with Receiver() as receiver:
        address = receiver.url.replace("http://", "json://")
        rules = [{"person": "ada", "to": address}, {"person": "ada", "to": address, "on": "failed", "digest": "24h"}]
        bench.worker(JOBKIT_NOTIFY=json.dumps(rules))
        jobs = [bench.kit.options(delay=3600).submit(len, text) for text in ("first", "last")]
        wait_until(lambda: state(bench, jobs[0].id) == "offer", what="the worker to store the people with an address")
        for job in jobs:
            assert act(bench, "tell", job.id).is_ok
            job.cancel()
        wait_until(lambda: jobs[1].id[:8] in str(told(receiver)), what="the last message")

    assert [text[-9:-1] for text in told(receiver)] == [job.id[:8] for job in jobs]


def test_an_address_of_two_people_gets_what_either_of_them_has_asked_for_once(bench: Bench) -> None:
    rules = [NotifyRule.read({"person": person, "to": "json://team"}) for person in ("ada", "eve")]
    store = bench.kit.verbs.store
    notifier = Notifier(store, [], [Address(rule, bench.kit.settings) for rule in rules])
    event, job = JobEvent("x", 1, EventType.FAILED, 1, id="1-1"), snapshot_of("bob")

    for people in ({"ada"}, {"eve"}, {"ada", "eve"}):
        notifier._wanted = {"x": people}
        assert len(notifier._sends(event, job)) == 1
    notifier._wanted = {}
    assert notifier._sends(event, job) == []


@pytest.mark.parametrize("is_sent", [True, False])
def test_a_worker_that_is_no_longer_the_leader_sends_no_more(bench: Bench, is_sent: bool) -> None:
    store, sent = bench.kit.verbs.store, []
    rules = [NotifyRule.read({"to": f"json://{name}", "on": "failed"}) for name in ("one", "two")]
    sinks = [Address(rule, bench.kit.settings) for rule in rules]
    notifier = Notifier(store, [], sinks)

    async def send(message: Message) -> None:
        sent.append(message.text)
        await store.redis.set(f"{store.prefix}teller", "another process", px=15_000)
        notifier._leader._leads_until = 0.0  # it has taken longer than the lock is held
        if not is_sent:
            raise DeliveryRefused("it is away")

    async def deliver() -> None:
        for sink in sinks:
            sink._send = send  # type: ignore[method-assign]
            await store.part(ToldStore).hold(sink.key, msgspec.json.encode(Message("1-1", "job failed")), 1)
        await notifier._deliver_pending()
        assert len(await store.part(ToldStore).held([sink.key for sink in sinks], 2)) == 2  # the leader sends them

    background.call(deliver())
    assert sent == ["job failed"]


def test_failures_of_a_person_are_sent_as_one_digest_when_its_time_has_come(bench: Bench) -> None:
    store = bench.kit.verbs.store
    with Receiver(answers=[500]) as receiver:
        address = receiver.url.replace("http://", "json://")
        rule = NotifyRule.read({"person": "ada", "on": "failed", "to": address, "digest": "24h", "tz": "UTC"})
        sink = Address(rule, bench.kit.settings)
        event, job = JobEvent("x", 1, EventType.FAILED, 1, id="1-1"), snapshot_of("ada")
        assert sink.wants(event, job)
        assert not sink.wants(event, snapshot_of("eve"))

        async def hold_and_send() -> None:
            later = timedelta()
            notifier = Notifier(store, [], [sink], now=lambda: datetime.now(UTC) + later)
            for one, of in (
                (msgspec.structs.replace(event, id="2-1"), snapshot_of("ada", "a later one")),
                (event, job),
            ):
                await notifier._hand_over(sink, sink.message(one, of))
            await notifier.deliver_held()
            assert not receiver.bodies
            later_ms = to_ms(datetime.now(UTC) + timedelta(days=1))
            due = (await store.part(ToldStore).held([sink.key], later_ms))[sink.key]
            assert len(due) == 2
            for message in due:
                await store.part(ToldStore).hold(sink.key, message, 1)  # its time has come
            await notifier.deliver_held()  # refused
            later = timedelta(seconds=1)
            await notifier.deliver_held()
            await notifier.deliver_held()

        background.call(hold_and_send())

    (text,) = told(receiver)
    assert text.splitlines() == ["len failed (job x)", "len failed (job a later )"]


def test_a_digest_says_how_many_more_there_are_and_is_a_failure_if_one_is() -> None:
    messages = [Message(str(n), f"job {n} succeeded", "success") for n in range(60)]

    assert digest_of(messages[:1]) == messages[0]
    assert digest_of(messages).text.splitlines()[-1] == "and 10 more"
    assert digest_of(messages).kind == "success"
    assert digest_of([*messages, Message("x", "job failed", "failure")]).kind == "failure"


def test_an_address_that_apprise_does_not_understand_is_refused_when_the_worker_starts(bench: Bench) -> None:
    worker = bench.worker(JOBKIT_NOTIFY=json.dumps([{"to": "nothing://hidden-word", "on": "failed"}]), ready=False)

    assert worker.wait(60) != 0
    assert "apprise does not understand an address nothing://..." in bench.said()
    assert "hidden-word" not in bench.said()
    assert "Traceback" not in bench.said()


def test_without_apprise_one_sentence_has_the_command_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    rule = NotifyRule.read({"to": "slack://x", "on": "failed"})
    with pytest.raises(JobkitError, match=r"pip install 'panel-jobkit\[apprise\]'"):
        Address(rule, Settings())


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"to": "slack://x", "url": "http://x"}, "either a url or a command, or to"),
        ({"to": ["slack://x"]}, "to of a notify rule must be text, not list"),
        ({"to": "ada@example.org"}, "to of a notify rule must be an address"),
        ({"url": "http://x", "quiet": "22:00-07:00"}, "quiet of a notify rule needs to"),
        ({"command": ["true"], "person": "ada"}, "person of a notify rule needs to"),
        ({"to": "slack://x", "digest": "5 s"}, "digest of a notify rule must be"),
    ],
)
def test_bad_rules_of_addresses_are_refused_without_showing_them(rule: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidParams, match=words) as refused:
        NotifyRule.read(rule)
    assert "ada@" not in str(refused.value)
    assert "slack://x" not in str(refused.value)
    assert "slack://x" not in repr(NotifyRule(to="slack://x"))


def test_a_browser_says_whether_it_is_told_and_never_where_to(bench: Bench) -> None:
    job = bench.kit.options(delay=3600).submit(len, "abc")
    background.call(bench.kit.verbs.store.part(ToldStore).offer({"ada"}))

    assert act(bench, "tell", job.id, to="json://127.0.0.1:1/x", person="ada").is_ok
    assert background.call(bench.kit.verbs.store.part(ToldStore).wanted([job.id])) == {job.id: {"ada"}}
    assert not act(bench, "tell", job.id, person="eve", role=Role.NONE).is_ok
    assert not act(bench, "tell", job.id, person="eve", role=Role.OWN).is_ok  # a job of another user


def test_a_visitor_without_a_name_and_a_page_that_only_shows_use_nobodys_address(bench: Bench) -> None:
    job = bench.kit.options(delay=3600).submit(len, "abc")
    background.call(bench.kit.verbs.store.part(ToldStore).offer({"ada", user_name()}))

    assert not act(bench, "tell", job.id, person="").is_ok
    assert state(bench, job.id, person="") == ""
    assert background.call(about(Actions(bench.kit, Person("ada"), only_looks=True), job.id)) == {"told": ""}
    assert background.call(about(Actions(bench.kit, Person()), job.id)) == {"told": "offer"}  # on their own machine
