"""Words: what a torn, expired, used, revoked or foreign one answers, in one sentence each."""

from __future__ import annotations

import dataclasses
import socket
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from jobkit.embedded import ensure_running
from jobkit.embedded.home import Home
from jobkit.features.sharing import hosting
from jobkit.features.sharing.gateway import bind
from jobkit.features.sharing.joining import join, leave
from jobkit.features.sharing.members import JoinRefused, Members
from jobkit.features.sharing.rights import MemberRole
from jobkit.features.sharing.words import Word, read_word
from jobkit.joined import joined_places
from jobkit.model import InvalidParams, JobkitError
from jobkit.settings import Settings
from tests.features.sharing.conftest import member_of, run
from tests.support import free_port

WORD = Word("192.0.2.7", 7379, bytes(range(32)), bytes(16), 1_800_000_000)


def test_a_word_is_read_from_the_whole_line_too() -> None:
    assert read_word(WORD.text()) == WORD
    assert read_word(f"  $ jobkit join {WORD.text()}\n") == WORD
    assert len(WORD.text()) < 120
    assert WORD.text() not in repr(WORD)


def test_each_torn_word_is_told_apart_from_a_whole_one() -> None:
    text = WORD.text()
    for n in range(4, len(text)):
        with pytest.raises(InvalidParams, match="torn"):
            read_word(text[:n])
    for n in range(4, len(text)):
        with pytest.raises(InvalidParams, match="torn"):
            read_word(text[:n] + ("A" if text[n] != "A" else "B") + text[n + 1 :])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hello", "begins with jk1."),
        ("", "begins with jk1."),
        (WORD.text().replace("jk1", "jk2"), "of another version of jobkit (jk2"),
        (WORD.text()[:50] + " " + WORD.text()[50:], "has no spaces"),
    ],
)
def test_what_is_no_word_of_this_version_is_refused(text: str, said: str, other: Path) -> None:
    done = run("join", "-", input=text, home=other)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_word_works_once_and_says_who_used_it(shared: Settings, other: Path, tmp_path: Path) -> None:
    word = hosting.new_word(shared)
    join(word, other)
    with pytest.raises(JoinRefused, match="already used, by "):
        join(word, tmp_path / "third")
    assert joined_places(tmp_path / "third") == []


def test_a_word_for_two_machines_works_twice(shared: Settings, other: Path, tmp_path: Path) -> None:
    word = hosting.new_word(shared, uses=2)
    assert join(word, other)[0].user != join(word, tmp_path / "third")[0].user
    with pytest.raises(JoinRefused, match="already used"):
        join(word, tmp_path / "fourth")


def test_the_clock_of_the_sharing_machine_decides_whether_a_word_has_expired(shared: Settings, other: Path) -> None:
    valid = hosting.new_word(shared)
    join(replace(valid, expires=int(time.time()) - 3600), other)  # as a machine whose clock is hours ahead sees it
    with pytest.raises(JoinRefused, match="it expired at .* by its clock"):
        join(replace(hosting.new_word(shared, valid_s=-1), expires=int(time.time()) + 3600), other)


def test_a_revoked_word_is_refused(shared: Settings, other: Path) -> None:
    word = hosting.new_word(shared)
    name = Members(Home.at(shared.home)).read().tickets[-1].name
    done = run("share", "--revoke", name, home=shared.home)
    assert done.returncode == 0, done.stderr
    with pytest.raises(JoinRefused, match="it was revoked"):
        join(word, other)


def test_a_revoked_machine_does_not_join_again_with_a_word_for_several(
    shared: Settings, other: Path, tmp_path: Path
) -> None:
    word, later = hosting.new_word(shared, uses=5), hosting.new_word(shared, uses=5)
    joined, stays = join(word, other)[1], join(word, tmp_path / "stays")[1]
    done = run("share", "--revoke", joined.name, home=shared.home)

    assert done.returncode == 0, done.stderr
    assert "is refused, too (it was given to several machines, one of which is revoked)" in done.stderr
    with pytest.raises(JoinRefused, match="it was revoked"):
        join(word, other)
    join(later, tmp_path / "another")
    assert Members(Home.at(shared.home)).read().member(stays.user, stays.password) is not None


def test_a_word_for_several_machines_stays_valid_when_one_of_them_leaves(
    shared: Settings, other: Path, tmp_path: Path
) -> None:
    word = hosting.new_word(shared, uses=5)
    assert leave(join(word, other)[0].name, other) == ""
    join(word, tmp_path / "next")


def test_an_unknown_ticket_is_refused(shared: Settings, other: Path) -> None:
    with pytest.raises(JoinRefused, match="not known here"):
        join(replace(hosting.new_word(shared), ticket=bytes(16)), other)
    assert "a machine at 127.0.0.1 may not join: " in (shared.home / "logs" / "gateway.log").read_text()


def test_another_machine_at_the_same_address_gets_nothing(shared: Settings, other: Path) -> None:
    word = hosting.new_word(shared)
    with pytest.raises(JobkitError, match="did not make this word"):
        join(replace(word, fingerprint=bytes(32)), other)
    join(word, other)  # its ticket was not sent


def test_a_machine_that_shares_no_longer_is_told_from_one_that_is_away(other: Path) -> None:
    with pytest.raises(JobkitError, match=r"runs, but shares no longer.* \(this word was valid until"):
        join(Word("127.0.0.1", free_port(), bytes(32), bytes(16), 1), other)
    with pytest.raises(JobkitError, match="cannot be reached .*check that it is awake"):
        join(Word("no-such-host.invalid", 7379, bytes(32), bytes(16), 2_000_000_000), other)


def test_options_are_checked_before_the_word_is_used_up(shared: Settings, other: Path) -> None:
    word = hosting.new_word(shared)
    for options in (["-q", "a b"], ["--resources", "gpu=x"], ["--as", "../x"], ["-c", "0"]):
        done = run("join", word.text(), *options, home=other)
        assert done.returncode == 2, (options, done.stderr)
    join(word, other)


def test_a_place_that_was_not_joined_is_named(shared: Settings, other: Path) -> None:
    member_of(shared, other)
    (name,) = joined_places(other)
    done = run("jobs", home=other, JOBKIT_URL="joined://lba")
    assert done.returncode == 2
    assert "has not joined 'lba'" in done.stderr
    assert f"joined are {name}" in done.stderr


def test_share_says_what_is_wrong_with_its_address(shared: Settings) -> None:
    with bind("127.0.0.1", taken := free_port()):
        for options, said in (
            (["--host", "192.0.2.7"], "192.0.2.7 is not an address of this machine"),
            (["--host", "no-such-host.invalid"], "is not an address of this machine"),
            (["--host", "127.0.0.1", "--port", str(taken)], f"port {taken} of 127.0.0.1 is in use"),
            (["--expires", "soon"], "--expires must be a time"),
            (["--list", "--stop"], "cannot be used together"),
            (["--revoke", "lab-9"], "there is no member or valid word 'lab-9'"),
        ):
            done = run("share", *options, home=shared.home)
            assert done.returncode in (1, 2), options
            assert said in done.stderr, done.stderr
            assert len(done.stderr.splitlines()) == 1
    assert hosting.new_word(shared).port == Members(Home.at(shared.home)).read().port, "it still listens as before"


def test_a_namespace_whose_keys_begin_like_those_of_another_is_not_shared(shared: Settings) -> None:
    ensure_running(dataclasses.replace(shared, namespace="team:test"), only_looks=True)
    for namespace in ("team", "team:test:x"):
        done = run("--namespace", namespace, "share", home=shared.home)
        assert done.returncode == 2, done.stderr
        assert f"the namespace '{namespace}' cannot be shared without 'team:test'" in done.stderr
        assert done.stdout == ""
    assert hosting.new_word(dataclasses.replace(shared, namespace="teams"))


def test_connections_of_machines_that_vanished_are_noticed() -> None:
    with (
        bind("127.0.0.1", 0) as listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_only_an_embedded_server_can_be_shared(other: Path) -> None:
    done = run("share", home=other, JOBKIT_URL="redis://:pw@127.0.0.1:1/0")
    assert done.returncode == 2
    assert "other machines use that URL" in done.stderr


def test_the_list_names_machines_and_words_and_tells_no_secrets(shared: Settings, other: Path) -> None:
    place = member_of(shared, other, MemberRole.VIEWER)
    word = hosting.new_word(shared)
    for options in ([], ["--json"]):
        shown = run("share", "--list", *options, home=shared.home).stdout
        assert "viewer" in shown
        assert "word-" in shown
        assert not any(secret in shown for secret in (place.password, word.ticket.hex(), word.text()))
