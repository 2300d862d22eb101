"""Names, passwords and roles: the login file, and the permissions that the settings give."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from jobkit.access.own_machine import PROXIED_VARIABLE
from jobkit.access.people import Account, hashed, is_password, person_named, read_login, stranger, write_login
from jobkit.model import InvalidParams
from jobkit.model.person import Person, Role
from jobkit.settings import Settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "users.json"


def written(file: Path, told: object) -> Path:
    file.write_text(json.dumps(told), "utf-8")
    file.chmod(0o600)
    return file


def settings(**values: object) -> Settings:
    return Settings(url="sync://", **values)  # type: ignore[arg-type]


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make hashes cost little, for tests of which the cost is no part."""
    monkeypatch.setattr("jobkit.access.people._N", 16)


def test_a_password_matches_its_hash_and_itself() -> None:
    kept = hashed("a long password")

    assert "long" not in kept
    assert kept != hashed("a long password")  # salted
    assert is_password("a long password", Account(kept))
    assert is_password("a long password", Account("a long password"))


@pytest.mark.parametrize("given", ["", "A long password", "a long password ", "x" * 2000, "\ud800"])
def test_another_password_does_not_match(cheap: None, given: str) -> None:
    for account in (Account(hashed("a long password")), Account("a long password"), None):
        assert not is_password(given, account)


def test_the_empty_password_never_matches(cheap: None) -> None:
    assert not is_password("", None)
    assert not is_password("", Account(""))


def test_a_login_file_is_read_back_as_it_was_written(cheap: None, file: Path) -> None:
    people = {"ada": Account(hashed("a long password"), Role.OPERATE), "eve": Account("plain word")}

    write_login(file, people)

    assert read_login(file) == people
    assert file.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in file.parent.iterdir()] == ["users.json"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize(("owner", "before", "after"), [(1, 0o600, 0o600), (0, 0o440, 0o640), (1, 0o440, 0o600)])
def test_a_login_file_that_root_changes_stays_readable_for_its_service(
    file: Path, owner: int, before: int, after: int
) -> None:
    written(file, {"ada": "x"})
    os.chown(file, owner, 2)
    file.chmod(before)

    write_login(file, {"ada": Account("y")})

    facts = file.stat()
    assert (facts.st_uid, facts.st_gid, facts.st_mode & 0o777) == (owner, 2, after)


def test_a_changed_login_file_takes_effect_at_once(file: Path) -> None:
    read_login(written(file, {"ada": "a long password"}))

    assert set(read_login(written(file, {"eve": "another password"}))) == {"eve"}


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ([], "JSON of names"),
        ({}, "JSON of names"),
        ({"ada": ""}, "'ada'"),
        ({"ada": 7}, "'ada'"),
        ({"ada": {"password": "x", "role": "root"}}, "none, own, view, operate, admin"),
        ({"ada": {"password": "x", "rolle": "view"}}, "'rolle'"),
        ({"ada": {"role": "view"}}, "password"),
        ({"": "x"}, "printable"),
        ({"a\nb": "x"}, "printable"),
        ({"ada": "scrypt$1$2$3"}, "jobkit people"),
        ({"ada": "scrypt$99999999999$8$5$YQ==$YQ=="}, "jobkit people"),
    ],
)
def test_an_error_in_a_login_file_is_one_sentence(file: Path, told: object, named: str) -> None:
    with pytest.raises(InvalidParams, match="login file") as refused:
        read_login(written(file, told))

    assert named in str(refused.value)


def test_a_file_that_others_can_read_is_refused(file: Path) -> None:
    written(file, {"ada": "x"}).chmod(0o644)

    with pytest.raises(InvalidParams, match="chmod 600"):
        read_login(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of root's")
def test_a_mounted_file_may_be_readable_by_its_group(file: Path) -> None:
    written(file, {"ada": "x"}).chmod(0o440)

    assert set(read_login(file)) == {"ada"}
    os.chown(file, 1, -1)
    with pytest.raises(InvalidParams, match="chmod 600"):
        read_login(file)


def test_a_role_in_the_file_beats_the_table_and_without_roles_all_are_admins(file: Path) -> None:
    login = str(written(file, {"ada": {"password": "x", "role": "own"}, "eve": "y"}))
    table = {"ada": "admin", "e*": "view"}

    def role(name: str, **more: object) -> Role:
        return person_named(name, settings(login=login, **more), is_listed=True).role

    assert (role("ada"), role("eve")) == (Role.OWN, Role.ADMIN)
    assert (role("ada", roles=table), role("eve", roles=table)) == (Role.OWN, Role.VIEW)
    assert role("mallory", roles={"*": "admin"}) is Role.NONE  # in no list; the cookie's role is ignored


def test_a_user_of_an_oauth_provider_has_no_rights_without_a_role() -> None:
    def role(name: str, **roles: str) -> Role:
        return person_named(name, settings(roles=roles), is_listed=False).role

    assert role("ada@lab.example") is Role.NONE
    assert role("ada@lab.example", **{"*@lab.example": "own"}) is Role.OWN
    assert role("ada@evil.example", **{"*@lab.example": "own"}) is Role.NONE
    assert role("ada", **{"ada": "admin", "*": "view"}) is Role.ADMIN
    assert role("bob", **{"ada": "admin", "*": "view"}) is Role.VIEW
    assert role("guest", **{"ada": "admin"}) is Role.NONE


def test_a_name_that_would_be_a_pattern_owns_nothing() -> None:
    assert person_named("*", settings(roles={"*": "own"}), is_listed=False).role is Role.NONE


def test_an_unreadable_login_file_refuses_every_login(file: Path) -> None:
    assert person_named("ada", settings(login=str(file)), is_listed=True).role is Role.NONE


def test_anonymous_users_have_all_rights_here_and_none_from_elsewhere_by_default() -> None:
    assert stranger(settings(), is_own_machine=True).role is Role.ADMIN
    assert stranger(settings(roles={"*": "admin"}), is_own_machine=False).role is Role.NONE
    assert stranger(settings(roles={"anonymous": "view"}), is_own_machine=False).role is Role.VIEW


def test_behind_the_proxy_of_a_hubs_user_one_is_that_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for said, person in {
        "own:ada:b": Person("ada:b", Role.OWN),
        "admin:": Person(),
        "own:*": Person("*", Role.NONE),
    }.items():
        monkeypatch.setenv(PROXIED_VARIABLE, said)
        assert stranger(settings(), is_own_machine=True) == person
        assert stranger(settings(), is_own_machine=False).role is Role.NONE


def test_a_role_decides_what_its_user_sees_and_may_do() -> None:
    sees = {role: (Person("ada", role).sees("ada"), Person("ada", role).sees("eve")) for role in Role}
    may = {
        role: [least for least in (Role.VIEW, Role.OPERATE, Role.ADMIN) if Person("a", role).may(least)]
        for role in Role
    }

    assert sees == {
        Role.NONE: (False, False),
        Role.OWN: (True, False),
        Role.VIEW: (True, True),
        Role.OPERATE: (True, True),
        Role.ADMIN: (True, True),
    }
    assert [len(may[role]) for role in (Role.NONE, Role.OWN, Role.VIEW, Role.OPERATE, Role.ADMIN)] == [0, 0, 1, 2, 3]
    assert not Person("", Role.OWN).sees("")  # jobs without an owner are not theirs
    looking = [Person("ada", role).looking() for role in Role]
    assert not any(each.may(Role.OPERATE) or each.may_with_own for each in looking)
    assert [each.sees("ada") for each in looking] == [Person("ada", role).sees("ada") for role in Role]


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({"email": "ada@lab.example", "groups": ["gpu-team"]}, Role.OPERATE),
        ({"email": "ada@lab.example", "groups": ["chess", 7, None]}, Role.VIEW),
        ({"email": "ada@lab.example", "groups": "gpu-team"}, Role.VIEW),  # a text is not a list of groups
        ({"email": "eve@lab.example", "groups": ["gpu-team"]}, Role.VIEW),  # groups of another user
        ({"email": "ada@lab.example", "groups": ["gpu-team"], "email_verified": False}, Role.NONE),
        ({"email": "ada@lab.example", "email_verified": "false"}, Role.NONE),
        ({}, Role.VIEW),
        (None, Role.VIEW),
    ],
)
def test_a_role_may_come_from_a_group_of_the_provider(claims: dict[str, object] | None, role: Role) -> None:
    known = settings(roles={"@gpu-*": "operate", "*@lab.example": "view"})

    assert person_named("ada@lab.example", known, is_listed=False, claims=claims).role is role
    assert person_named("@gpu-team", known, is_listed=False).role is Role.NONE  # a name is not a group
