"""nginx and HAProxy in front of a dashboard, with the documented configurations."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobkit.client.kit import Kit
from jobkit.settings import Settings
from tests.security.people_site import PeopleSite, login_options
from tests.support import ROOT, listens, wait_until
from tests.ui.conftest import _own_registry
from tests.ui.stage import Stage

__all__ = ["_own_registry"]

NAME = "jobs.example.org"
DOCS = ROOT / "docs" / "team"

#: The files and the prefix under which they serve the dashboard.
PROXIES = {"nginx.conf": "", "nginx-prefix.conf": "/team/jobs", "haproxy.cfg": ""}

_NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  {text}
}}
"""


def program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip(f"no {name} on this machine")
    return found


class Proxy:
    """A documented proxy in front of a port, on a free port, as the current user."""

    def __init__(self, file: str, port: int, folder: Path, certificates: Path) -> None:
        self.prefix, self.is_tls = PROXIES[file], file != "nginx-prefix.conf"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        text = (DOCS / file).read_text().replace("127.0.0.1:5006", f"127.0.0.1:{port}")
        config = folder / file
        if file == "haproxy.cfg":
            both = folder / "both.pem"
            both.write_text((certificates / "server.crt").read_text() + (certificates / "server.key").read_text())
            config.write_text(
                text.replace("bind :443 ssl crt /etc/ssl/jobs.pem", f"bind 127.0.0.1:{self.port} ssl crt {both}")
            )
            argv = [program("haproxy"), "-db", "-f", str(config)]
        else:
            text = text.replace("443 ssl", f"127.0.0.1:{self.port} ssl")
            text = text.replace("/etc/ssl/jobs.crt", str(certificates / "server.crt"))
            text = text.replace("/etc/ssl/jobs.key", str(certificates / "server.key"))
            if not self.is_tls:
                text = f"server {{ listen 127.0.0.1:{self.port}; {text} }}"
            config.write_text(_NGINX.format(folder=folder, text=text))
            argv = [program("nginx"), "-c", str(config), "-p", str(folder)]
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log)
        wait_until(self._listens, what=f"{file}: {(folder / 'log').read_text()}")

    @property
    def url(self) -> str:
        return f"http{'s' if self.is_tls else ''}://127.0.0.1:{self.port}{self.prefix}"

    def client(self, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False, verify=False)

    def stream(self) -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        if not self.is_tls:
            return plain
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(plain, server_hostname=NAME)

    def _listens(self) -> bool:
        assert self._process.poll() is None
        return listens(self.port)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    login = tmp_path / "users.json"
    login.write_text(json.dumps({"ada": {"password": "a long password", "role": "admin"}}))
    login.chmod(0o600)
    monkeypatch.setenv("JOBKIT_HOME", str(tmp_path / "home"))
    made = Stage(Kit(Settings(url="sync://", login=str(login), secret="of these tests")))
    made.submit("double", title="A secret job")
    yield made
    made.close()


@pytest.fixture(params=PROXIES)
def file(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def behind(
    stage: Stage, file: str, folder: Path, certificates: Path, **options: Any
) -> Iterator[tuple[PeopleSite, Proxy]]:
    from jobkit.ui.app.dashboard import Dashboard

    program(file[:5] if file.startswith("nginx") else "haproxy")
    site = PeopleSite(
        stage.kit,
        lambda: Dashboard(stage.kit).__panel__(),
        prefix=PROXIES[file].strip("/"),
        **options,
    )
    try:
        proxy = Proxy(file, site._running[0].port, folder, certificates)
        try:
            yield site, proxy
        finally:
            proxy.close()
    finally:
        site.close()


@pytest.fixture
def open_one(stage: Stage, file: str, tmp_path: Path, certificates: Path) -> Iterator[tuple[PeopleSite, Proxy]]:
    """Dashboard by the command of docs/dashboard.md, without a login."""
    yield from behind(stage, file, tmp_path, certificates, websocket_origin=[NAME])


@pytest.fixture
def with_login(
    stage: Stage, file: str, tmp_path: Path, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[PeopleSite, Proxy]]:
    options = login_options(stage.kit.settings, monkeypatch)
    yield from behind(stage, file, tmp_path, certificates, websocket_origin=[NAME], **options)


def test_without_a_login_requests_through_a_proxy_are_refused(open_one: tuple[PeopleSite, Proxy]) -> None:
    site, proxy = open_one
    for host in ("localhost", "localhost:5006", "127.0.0.1", NAME):
        with proxy.client(Host=host) as http:
            answers = http.get("/api/jobs"), http.post("/api/jobs", json={"task": "double"}), http.get("/page")
        assert [each.status_code for each in answers] == [401, 401, 403], host  # 421: an unknown host name
        assert "A secret job" not in answers[2].text
    direct = httpx.get(f"{site.url}{proxy.prefix}/api/jobs", headers={"Host": "localhost"}, trust_env=False)
    assert direct.status_code == 401  # also without the proxy, as other users can connect


def test_with_a_login_page_websocket_api_and_streams_work_through_it(with_login: tuple[PeopleSite, Proxy]) -> None:
    _, proxy = with_login
    with proxy.client(Host=NAME) as http:
        assert http.get("/api/jobs").status_code == 401
        sent_away = http.get("/page")
        assert sent_away.status_code == 302
        assert "login" in sent_away.headers["location"]
        http.get("/login")
        form = {"username": "ada", "password": "a long password", "_xsrf": http.cookies["_xsrf"]}
        assert http.post("/login", data=form).status_code == 302
        page = http.get("/page")
        assert page.status_code == 200
        assert http.get("/api/jobs").json()["jobs"][0]["title"] == "A secret job"
        with http.stream("GET", "/api/events") as stream:
            assert stream.status_code == 200
            assert next(stream.iter_raw())  # at once, not when a buffer is full
        cookies = "; ".join(f"{name}={value}" for name, value in http.cookies.items())
    token = page.text.partition('"token":"')[2].partition('"')[0]
    assert websocket(proxy, token, cookies) == (101, 1)
    assert websocket(proxy, token, "") == (403, 0)


def websocket(proxy: Proxy, token: str, cookies: str) -> tuple[int, int]:
    """Open a page's websocket; return the status and the opcode of the first frame."""
    scheme = "https" if proxy.is_tls else "http"
    lines = [f"GET {proxy.prefix}/page/ws HTTP/1.1", f"Host: {NAME}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Protocol: bokeh, {token}", "Sec-WebSocket-Version: 13", f"Origin: {scheme}://{NAME}"]
    lines += [f"Sec-WebSocket-Key: {b64encode(os.urandom(16)).decode()}", f"Cookie: {cookies}"]
    with proxy.stream() as stream:
        stream.sendall("\r\n".join([*lines, "", ""]).encode())
        reader = stream.makefile("rb")
        status = int(reader.readline().split()[1])
        while reader.readline().strip():
            pass
        return status, reader.read(1)[0] & 15 if status == 101 else 0
