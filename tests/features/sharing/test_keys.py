"""Keys of a home: what a member of a namespace can make of all that it knows, after it was revoked, too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import redis

import jobkit
from jobkit.codec import Codec, Subject
from jobkit.embedded.home import Home
from jobkit.embedded.server import ask
from jobkit.features.sharing import hosting
from jobkit.features.sharing.members import Members
from jobkit.http.auth.access import Tokens
from jobkit.joined import Membership
from jobkit.model import JobFailed, SignatureError
from jobkit.settings import Settings
from jobkit.store.connect import open_blocking
from jobkit.store.library import current
from tests.embedded.conftest import home_of_test
from tests.features.sharing.conftest import member_of, run
from tests.http.direct import Direct
from tests.support import free_port

CALL = Subject("args", "0" * 20, "work")


def test_no_token_that_a_member_can_make_is_valid_at_the_sharing_machine(shared: Settings, tmp_path: Path) -> None:
    place = member_of(shared, tmp_path)
    made = run("token", "--scope", "submit,operate,view", home=tmp_path, JOBKIT_URL=place.url)
    assert made.returncode == 0, made.stderr
    known = (place.secret, place.password, place.user, place.certificate)
    forged = [Tokens(key, "default").make(["view", "submit"], lifetime_s=3600)[0] for key in known]
    _revoke(shared, place)

    with jobkit.connect(home=shared.home) as kit:
        api = Direct(kit)
        try:
            assert api.ask("GET", "/api/jobs", token=api.token("view")).status == 200
            for token in (made.stdout.strip(), *forged):
                assert api.ask("GET", "/api/jobs", token=token).status == 401
                assert api.ask("POST", "/api/jobs", token=token, body={"task": "estimate_pi"}).status == 401
        finally:
            api.close()


def test_each_namespace_of_a_home_signs_with_its_own_key(shared: Settings, tmp_path: Path) -> None:
    with jobkit.connect(home=shared.home, namespace="teama") as kit:
        assert kit.submit(len, "abc").result(60) == 3
    place = member_of(replace(shared, namespace="teama"), tmp_path)
    own, other = (Codec.from_secret(Home.at(shared.home).secret(name)) for name in ("teama", "default"))
    sealed = Codec.from_secret(place.secret).dumps(1, CALL)

    assert own.loads(sealed, CALL) == 1
    with pytest.raises(SignatureError):
        other.loads(sealed, CALL)


@pytest.mark.nightly  # it starts a home twice
def test_new_keys_of_a_home_make_all_that_its_members_knew_invalid(tmp_path: Path) -> None:
    with home_of_test() as settings:
        hosting.share(settings, "127.0.0.1", free_port())
        before, home = member_of(settings, tmp_path / "before"), Home.at(settings.home)
        token = Tokens(home.token_secret(), "default").make(["view"], lifetime_s=3600)[0]
        assert run("down", home=home.path).returncode == 0
        for name in ("master-key", "secret"):  # as SECURITY.md says
            (home.path / name).unlink()
        hosting.share(settings, None, None)

        with pytest.raises(SignatureError, match="join again"):
            Codec.from_secret(home.secret("default")).loads(Codec.from_secret(before.secret).dumps(1, CALL), CALL)
        with jobkit.connect(home=home.path) as kit:
            assert kit.submit(len, "abc").result(60) == 3
            api = Direct(kit)
            try:
                assert api.ask("GET", "/api/jobs", token=token).status == 401
            finally:
                api.close()
        with jobkit.connect(before.url, home=tmp_path / "before") as kit, pytest.raises(JobFailed, match="join again"):
            kit.submit(len, "abc").result(60)
        again = member_of(settings, tmp_path / "again")
        with jobkit.connect(again.url, home=tmp_path / "again") as kit:
            assert kit.submit(len, "abc").result(60) == 3


def test_functions_that_a_revoked_machine_has_loaded_are_replaced(shared: Settings, tmp_path: Path) -> None:
    place = member_of(shared, tmp_path)
    with open_blocking(Settings.load(url=place.url, home=tmp_path), 10.0) as client:
        client.execute_command("FUNCTION", "LOAD", "REPLACE", f"{current.text}\n-- altered")
        client.execute_command("FUNCTION", "LOAD", "#!lua name=strange\nredis.register_function('own', function() end)")
        assert "altered" in _functions(shared)
        _revoke(shared, place)
        with pytest.raises(redis.RedisError):
            client.execute_command("FUNCTION", "LOAD", "REPLACE", f"{current.text}\n-- altered")

    assert "altered" not in _functions(shared)
    assert "strange" not in _functions(shared)
    with jobkit.connect(home=shared.home) as kit:
        assert kit.submit(len, "abc").result(60) == 3


def _functions(shared: Settings) -> str:
    return str(ask(str(Home.at(shared.home).socket), "FUNCTION", "LIST", "WITHCODE"))


def _revoke(shared: Settings, place: Membership) -> None:
    (name,) = (each.name for each in Members(Home.at(shared.home)).read().members if each.user == place.user)
    hosting.revoke(shared, [name])
