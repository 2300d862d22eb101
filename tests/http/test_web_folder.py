"""`jobkit dashboard --web DIR`: access to its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.access.test_own_machine import as_stranger, needs_root
from tests.http.site import Site


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "web"
    (made / ".git").mkdir(parents=True)
    (made / ".git" / "config").write_text("secret")
    (made / ".well").mkdir()
    (made / ".env").write_text("secret")
    (made / "index.html").write_text("a page")
    (tmp_path / "outside").write_text("secret")
    (made / "link").symlink_to(tmp_path / "outside")
    return made


def status(site: Site, path: str) -> int:
    return httpx.get(f"{site.url}/examples/web/{path}", trust_env=False).status_code


def test_hidden_files_and_links_out_of_the_folder_are_not_served(serve: Callable[..., Site], folder: Path) -> None:
    site = serve(web=str(folder))

    assert httpx.get(f"{site.url}/examples/web/", trust_env=False).text == "a page"
    for path in (".env", "%2eenv", ".git/config", ".git%2fconfig", "x/../.env", ".well/", "link", "../outside"):
        assert status(site, path) in (403, 404), path


@needs_root
def test_another_user_of_the_machine_gets_none_of_its_files(serve: Callable[..., Site], folder: Path) -> None:
    site = serve(web=str(folder))

    with as_stranger():
        answer = httpx.get(f"{site.url}/examples/web/index.html", trust_env=False)

    assert (answer.status_code, answer.headers["content-type"]) == (403, "text/plain; charset=utf-8")
    assert answer.text.startswith("this server belongs to another user of this machine")


def test_a_closed_server_accepts_a_token(serve: Callable[..., Site], folder: Path) -> None:
    site = serve(web=str(folder), is_open_on_loopback=False)

    assert status(site, "index.html") == 403
    with site.client(site.token("view")) as http:
        assert http.get("/examples/web/index.html").status_code == 200
    with site.client(site.token("submit")) as http:
        assert http.get("/examples/web/index.html").status_code == 403
