"""The dashboard for colleagues: a link logs each of them in, once, over TLS."""

from __future__ import annotations

import re
from pathlib import Path
from unittest.mock import Mock

import httpx
import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.web import Application

from jobkit.access.login_links import invite, name_of_link, use_link
from jobkit.access.people import read_login
from jobkit.embedded.home import Home
from jobkit.features.sharing.dashboard import login_file, people_of, remove_people
from jobkit.features.sharing.members import Members
from jobkit.features.sharing.rights import MemberRole
from jobkit.http.login import LoginHandler
from jobkit.model.person import Role
from tests.embedded.conftest import home_of_test
from tests.features.sharing.conftest import run
from tests.support import free_port, wait_until


def test_a_link_works_once_until_it_expires_and_only_its_hash_is_stored(tmp_path: Path) -> None:
    login = tmp_path / "people.json"
    token = invite(login, "ada", Role.OPERATE, 60.0)
    late = invite(login, "grace", Role.VIEW, -1.0)

    assert {name: account.role for name, account in read_login(login).items()} == {"ada": "operate", "grace": "view"}
    assert token not in "".join(path.read_text() for path in tmp_path.iterdir())
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.iterdir())
    assert [name_of_link(login, text) for text in (token, late, "", "x")] == ["ada", "", "", ""]
    assert [use_link(login, text) for text in (token, token, late)] == ["ada", "", ""]


def test_a_link_for_a_known_user_keeps_the_password_and_changes_the_role(tmp_path: Path) -> None:
    login = tmp_path / "people.json"
    invite(login, "ada", Role.VIEW, 60.0)
    before = read_login(login)["ada"]
    invite(login, "ada", Role.ADMIN, 60.0)
    assert read_login(login)["ada"].password == before.password
    assert read_login(login)["ada"].role is Role.ADMIN


def test_a_damaged_file_of_links_logs_no_one_in_and_is_replaced(tmp_path: Path) -> None:
    login = tmp_path / "people.json"
    token = invite(login, "ada", Role.VIEW, 60.0)
    (tmp_path / "people.json.links").write_text('{"a": ')
    assert name_of_link(login, token) == ""
    assert use_link(login, invite(login, "ada", Role.VIEW, 60.0)) == "ada"


def test_a_link_of_a_removed_user_does_not_log_in_a_later_one_of_that_name(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    login = login_file(home)
    old, other = invite(login, "ada", Role.VIEW, 60.0), invite(login, "grace", Role.VIEW, 60.0)
    assert remove_people(home, ["ada", "vm"]) == ["ada"]
    new = invite(login, "ada", Role.ADMIN, 60.0)
    assert [use_link(login, token) for token in (old, new, other)] == ["", "ada", "grace"]


def test_a_link_for_an_admin_without_a_name_does_not_make_guests_admins(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    invite(login_file(home), "guest", Role.VIEW, 60.0)
    done = run("share", "--dashboard", "--role", "admin", home=home.path)
    assert done.returncode == 2
    assert "guest has the role view here" in done.stderr
    assert read_login(login_file(home))["guest"].role is Role.VIEW


def test_revoking_a_name_of_a_colleague_and_a_machine_revokes_both(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    invite(login_file(home), "ada", Role.VIEW, 60.0)
    members = Members(home)
    ticket, _ = members.new_ticket(MemberRole.WORKER, "default", 60.0, 1)
    members.redeem(ticket.hex(), "ada", "")
    done = run("share", "--revoke", "ada", home=home.path)
    assert done.returncode == 0, done.stderr
    assert members.read().members == ()
    assert people_of(home) == {}


@pytest.mark.parametrize("method", ["HEAD", "PUT", "POST"])
def test_no_refused_request_writes_its_link_into_the_log(method: str, caplog: pytest.LogCaptureFixture) -> None:
    line = RequestStartLine(method, "/login?link=the-token", "HTTP/1.1")
    request = HTTPServerRequest(start_line=line, headers=HTTPHeaders({"Host": "localhost"}), connection=Mock())
    handler = LoginHandler(Application(), request)
    handler.set_status(405)
    caplog.set_level("INFO", "tornado.access")
    handler.application.log_request(handler)

    assert f"{method} /login" in caplog.text
    assert "the-token" not in caplog.text


@pytest.mark.nightly  # it waits for Panel
def test_a_colleague_opens_the_link_and_stays_logged_in_until_revoked() -> None:
    with home_of_test() as shared:
        port = str(free_port())
        shown = run("share", "--dashboard", "--host", "127.0.0.1", "--port", port, "--for", "ada", home=shared.home)
        url = httpx.URL(shown.stdout.strip())
        with httpx.Client(base_url=url.copy_with(path="/", query=None), verify=False) as browser:
            assert browser.get("/api/jobs").status_code == 401
            page = browser.get(url).text
            assert "<b>ada</b>" in page
            assert 'name="password"' not in page
            assert browser.head(url).status_code == 200
            assert browser.get(url).text.count("<b>ada</b>") == 1, "programs that preview links do not use it up"
            fields = {name: _value(page, name) for name in ("_xsrf", "link")}
            assert browser.post("/login", data={"link": fields["link"]}).status_code == 403, "it needs the form's mark"
            assert browser.post("/login", data=fields).status_code == 302
            assert browser.get("/api/jobs").status_code == 200
            assert browser.post("/api/jobs", json={"task": "x"}).status_code == 403, "the role is view"
            assert "expired or was used" in browser.get(url).text

            assert "ada" in run("share", "--list", home=shared.home).stdout
            run("share", "--revoke", "ada", home=shared.home)
            wait_until(lambda: _is_refused(browser), what="the end of the login")


def _is_refused(browser: httpx.Client) -> bool:
    try:
        return browser.get("/api/jobs").status_code == 401
    except httpx.TransportError:  # without colleagues there is no dashboard
        return True


def _value(page: str, name: str) -> str:
    found = re.search(f'name="{name}" value="([^"]+)"', page)
    assert found
    return found[1]
