"""`jobkit up`, `jobkit down` and `jobkit dashboard`: at which address, under which names, behind which login.

The supervisor runs the embedded server and its workers, as always. `up` keeps the supervisor alive, adds the dashboard,
and ends all of them. So a notebook works with the same server, whether it was opened before or after.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import hmac
import importlib.util
import ipaddress
import json
import os
import secrets
import signal
import socket
import ssl
import sys
import time
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import click

import jobkit
import jobkit.http
from jobkit.access.own_machine import (
    ADDRESS_VARIABLE,
    PROXIED_VARIABLE,
    is_loopback,
    own_address,
    system_tells,
    to_open,
    to_print,
)
from jobkit.access.people import ANONYMOUS, person_named, read_login
from jobkit.cli import BadInput, options, out
from jobkit.cli.worker import kept_worker, slots_option
from jobkit.codec import keys_in
from jobkit.embedded import ensure_running, shutdown
from jobkit.embedded.children import Child, Keeper
from jobkit.embedded.demand import request_workers
from jobkit.embedded.home import Home, holding
from jobkit.embedded.launch import check_died, environment
from jobkit.joined import address_of
from jobkit.model import JobkitError, StoreUnavailable
from jobkit.model.person import Role
from jobkit.settings import Settings, hub_user
from jobkit.store.binary import check_system
from jobkit.store.hub import RESTART_S

#: Port of the dashboard, if it is free.
DEFAULT_PORT = 5006
_PORTS_TRIED = 20

#: Command line of the dashboard's server.
_PANEL_SERVE = [
    sys.executable,
    "-m",
    "panel",
    "serve",
    str(Path(__file__).with_name("app.py")),
    "--plugins=jobkit.http",
]

#: Seconds that a JupyterHub has for its answer.
_HUB_S = 5.0

#: Connects to the JupyterHub directly: its token is not for a proxy of the environment (`http_proxy`).
_hub = build_opener(ProxyHandler({}))

#: Variables with the keys of cookies and sessions, for Panel and Bokeh.
SEALING = {"PANEL_COOKIE_SECRET": "cookie", "BOKEH_SECRET_KEY": "session"}

#: Variable with the name of the OAuth provider, for Panel.
PROVIDER = "PANEL_OAUTH_PROVIDER"
_KEYS = ("PANEL_OAUTH_KEY", "PANEL_OAUTH_SECRET")
_NEEDED = {
    **dict.fromkeys(("auth0", "bitbucket", "github", "gitlab", "google", "okta"), _KEYS),
    **dict.fromkeys(("azure", "azurev2"), (*_KEYS, "AAD_TENANT_ID")),  # without it, all accounts there
    "generic": (*_KEYS, "PANEL_OAUTH_AUTHORIZE_URL", "PANEL_OAUTH_TOKEN_URL"),
    "auth_code": (_KEYS[0], "PANEL_OAUTH_AUTHORIZE_URL", "PANEL_OAUTH_TOKEN_URL"),
}

#: Seconds that the dashboard gets to stop.
_DASHBOARD_STOP_S = 5.0

_page_options = options(
    click.option("--port", type=click.IntRange(1, 65535), help=f"Port. [{DEFAULT_PORT}, or the next free port]"),
    click.option("--show", is_flag=True, help="Open the dashboard in a browser."),
)


@click.command()
@_page_options
@slots_option
def up(port: int | None, show: bool, slots: int | None) -> int:
    """Run server, workers and dashboard in the foreground, restarted when they die. Ctrl-C stops all."""
    check_system()
    settings = Settings.load(slots=slots)
    if settings.scheme == "sync":
        raise BadInput(
            "`jobkit up` needs a server, and sync:// runs each job in the process that submits it; set JOBKIT_URL"
        )
    if not settings.is_embedded:
        return run_remote(settings, free_port(port), show=show)
    return run_up(settings, port, show=show)


@click.command()
@click.option("--now", is_flag=True, help="Release running jobs to the queue at once.")
def down(now: bool) -> None:
    """Stop the embedded server and its workers. Jobs, results and logs stay."""
    settings = Settings.load()
    if not settings.is_embedded:
        raise BadInput(
            f"`jobkit down` stops an embedded server, and JOBKIT_URL is {settings.masked_url}; `jobkit workers stop` "
            "stops its workers"
        )
    check_system()
    waiting = (
        "running jobs go back to the queue" if now else "running jobs may finish; --now releases them to the queue"
    )
    was_running = shutdown(settings, now=now, on_wait=lambda: out.say(waiting))
    click.echo("stopped" if was_running else f"nothing is running in {settings.home}")
    if was_running:
        home = Home.open(settings.home)
        with holding(home.up_lock) as is_free:
            if not is_free:
                where = home.up_lock.read_text("utf-8").strip()
                at = f" at {where}" if where else ""
                out.say(f"`jobkit up`{at} ends in {RESTART_S:.0f} s, unless the server is started again")


def run_up(settings: Settings, port: int | None, *, show: bool) -> int:
    """Run until Ctrl-C or `jobkit down`. Returns the exit status. Raises JobkitError if the server cannot run."""
    home = Home.open(settings.home)
    with holding(home.up_lock) as is_mine:
        if not is_mine:
            where = home.up_lock.read_text("utf-8").strip()
            raise BadInput(
                f"`jobkit up` already runs for {home.path}{f' at {where}' if where else ''}; "
                "stop it there with Ctrl-C, or use another JOBKIT_HOME"
            )
        port = free_port(port)
        with suppress(OSError):  # the disk is full: others do not learn the address
            home.up_lock.write_text(_address(port), "utf-8")
        server = ensure_running(settings)
        child = _dashboard(port, home, replace(settings, secret=server.secret, token_secret=server.token_secret))
        with Keeper([child]) as keeper:
            announce = _announcing(port, settings, show=show)
            stopped_at: list[float] = []
            is_down = False

            def tick() -> None:
                announce()
                with suppress(OSError):  # the disk is full, or the home was deleted
                    request_workers(home, settings, only_looks=True)  # keep the server running while no page is open
                if home.is_supervised() or keeper.signals:
                    stopped_at.clear()
                    return
                try:
                    check_died(home)
                except StoreUnavailable:  # it was stopped elsewhere, perhaps to be started again
                    stopped_at.append(time.monotonic())
                    if time.monotonic() - stopped_at[0] < RESTART_S and home.path.is_dir():
                        return
                    raise
                out.say("the embedded server died; restarting it")
                ensure_running(settings)

            out.say(f"server and workers run in {home.path}; Ctrl-C stops all")
            try:
                keeper.run(tick)
                out.say("stopping; running jobs may finish, Ctrl-C again stops at once")
            except StoreUnavailable:
                if home.status().get("state") not in ("stopping", "stopped"):
                    raise
                is_down = True
                out.say("`jobkit down` stopped the server; its jobs wait. Stopping the dashboard")
            finally:
                keeper.stop(_DASHBOARD_STOP_S)
            if not is_down:
                shutdown(settings, is_urgent=lambda: keeper.signals > 1)
            out.say("stopped")
        home.up_lock.write_text("", "utf-8")
    return child.gave_up_with or 0


def run_remote(settings: Settings, port: int, *, show: bool) -> int:
    """Run a worker and the dashboard for a Redis that is not embedded."""
    jobkit.connect().close()  # report an unreachable server once, here
    home = Home.open(settings.home)
    worker = kept_worker("worker", ["worker"], JOBKIT_SLOTS=f"{settings.slots}")
    with Keeper([worker, _dashboard(port, home, settings)]) as keeper:
        out.say(f"worker and dashboard for {settings.masked_url}; Ctrl-C stops both")
        keeper.run(_announcing(port, settings, show=show))
        keeper.stop(settings.drain + 5.0)
    return worker.gave_up_with or 0


def _dashboard(port: int, home: Home, settings: Settings) -> Child:
    log = home.logs / "dashboard.log"
    options, environ = guard(settings)
    if not settings.is_embedded:  # whose keys are in its home
        keys = {"JOBKIT_TOKEN_SECRET": settings.token_secret}
        keys |= (
            {"JOBKIT_SECRET_FILE": settings.secret_file} if settings.secret_file else {"JOBKIT_SECRET": settings.secret}
        )
        environ |= {name: key for name, key in keys.items() if key}
    return Child(
        name="dashboard",
        argv=dashboard_command(port) + options,
        env=environment() | environ,
        log=log,
        death_signal=signal.SIGTERM,
        say=lambda line: out.say(f"{line}; see {log}" if " ended " in line else line),
    )


def _announcing(port: int, settings: Settings, *, show: bool) -> Callable[[], None]:
    """Return a function to call repeatedly: it prints the dashboard's address, once, when that answers."""
    has_login, is_said = bool(settings.login or os.environ.get(PROVIDER)), False

    def announce() -> None:
        nonlocal is_said
        if is_said:
            return
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return
        is_said = True
        address = _address(port)
        click.echo(address if has_login else to_print(address))
        if show:
            webbrowser.open(address if has_login else to_open(address))

    return announce


def _address(port: int) -> str:
    return f"http://localhost:{port}/"


# -- the dashboard -----------------------------------------------------------------------------------------------------


@click.command()
@_page_options
@click.option("--unix-socket", metavar="FILE", help="Serve for the proxy of your Jupyter server, on this socket.")
@click.option("--prefix", default="", metavar="PATH", help="With --unix-socket: path under which the proxy serves it.")
@click.option("--web", metavar="DIR", help="Also serve the web page in this folder, at /DIR/.")
@click.option("--host", metavar="ADDRESS", help="Address to listen on; needs a login unless loopback. [127.0.0.1]")
@click.option("--login", metavar="FILE", help='Require a login; FILE is JSON: {"name": "password"}.')
@click.option("--oauth", metavar="PROVIDER", help="Require a login at github, google, azurev2, generic, ...")
@click.option("--cert", metavar="FILE", help="Serve over TLS with this certificate (PEM).")
@click.option("--key", metavar="FILE", help="Key of the certificate, if it is in another file.")
def dashboard(
    port: int | None,
    show: bool,
    unix_socket: str | None,
    prefix: str,
    web: str | None,
    host: str | None,
    login: str | None,
    oauth: str | None,
    cert: str | None,
    key: str | None,
) -> None:
    """Serve the dashboard and the HTTP API, without workers. Listens on 127.0.0.1 unless --host is given."""
    from jobkit.http.tornado_app import WEB_VARIABLE

    if unix_socket:
        if port or show or web or host or login or oauth or cert or key:
            raise BadInput("--unix-socket can be used with --prefix only: login, TLS and address are the proxy's")
        serve_behind_jupyter(unix_socket, prefix)
    if prefix:
        raise BadInput("--prefix needs --unix-socket FILE")
    login, oauth = login or Settings.load().login or None, oauth or os.environ.get(PROVIDER)
    secured = tls(cert, key)
    if secured and show:
        raise BadInput("--show cannot be used with --cert; open the printed address")
    host = check_host(host, bool(login or oauth))
    served = {} if web is None else {WEB_VARIABLE: _web_folder(web)}
    port = free_port(port, host)
    with jobkit.connect() as kit:  # report a wrong URL here and not on a page
        guarded, environ = guard(kit.settings, login, oauth)
    if kit.settings.public_url and not (login or oauth or ANONYMOUS in kit.settings.roles):
        out.say(
            "JOBKIT_PUBLIC_URL is set without a login, so remote users see no jobs; give --login FILE or "
            "--oauth PROVIDER, or give them a role: JOBKIT_ROLES=anonymous=view"
        )
    if login or oauth or system_tells():  # else the server prints its address itself, with a token
        own = f"http{'s' if secured else ''}://{address_of(_reached_as(host, bool(secured)), port)}/"
        served[ADDRESS_VARIABLE] = kit.settings.public_url or own
    argv = dashboard_command(port, host) + guarded + secured + (["--show"] if show else [])
    sys.stdout.flush()
    os.execve(argv[0], argv, {**os.environ, **environ, **served})


def _web_folder(folder: str) -> str:
    """Return `PATH=FOLDER` for the server. PATH is the folder's relative path, or its name."""
    path = Path(folder)
    name = path.name if path.is_absolute() or ".." in path.parts else path.as_posix()
    if not path.is_dir() or name in ("", ".", "api", "app", "static") or name.startswith("api/"):
        raise BadInput(f"--web must be a folder not named api, app or static, not {folder!r}")
    return f"{name}={path.resolve()}"


def serve_behind_jupyter(unix_socket: str, prefix: str) -> NoReturn:
    """Become the dashboard's server of this user behind the proxy of their Jupyter server.

    That has checked that the visitor is this user, and the origin of websockets. No other user can open the socket.
    """
    settings = Settings.load()
    secret = settings.login_secret
    with suppress(JobkitError), jobkit.connect() as kit:  # the page says what is missing, and tries again
        secret = kit.settings.login_secret
    argv = [*_PANEL_SERVE, "--unix-socket", unix_socket, "--prefix", prefix, "--use-xheaders"]
    argv += ["--allow-websocket-origin", "*", "--session-ids", "signed"]
    name = hub_user()
    environ = {**os.environ, **sealing(replace(settings, token_secret=secret))}
    environ[PROXIED_VARIABLE] = f"{hub_role(name, settings) if name else Role.ADMIN}:{name}"
    environ.pop(PROVIDER, None)  # of another dashboard
    sys.stdout.flush()
    os.execve(argv[0], argv, environ)


def hub_role(name: str, settings: Settings) -> Role:
    """Return the role of a JupyterHub's user on the dashboard behind their own Jupyter server.

    The embedded server is theirs alone. On a shared one admins of the Hub are admins; the table of roles, with the
    groups of the Hub, decides for the others; without a table it is `own`. An unreachable Hub names neither.
    """
    if settings.is_embedded:
        return Role.ADMIN
    told: dict[str, object] = {}
    token = {"Authorization": f"token {os.environ.get('JUPYTERHUB_API_TOKEN', '')}"}
    try:
        request = Request(f"{os.environ.get('JUPYTERHUB_API_URL', '')}/user", headers=token)
        with _hub.open(request, timeout=_HUB_S) as answer:
            told = json.load(answer)
    except (OSError, HTTPException, ValueError) as error:
        out.say(f"the JupyterHub does not tell groups and admins: {error}")
    if told.get("admin") is True:
        return Role.ADMIN
    if not settings.roles:
        return Role.OWN
    return person_named(name, replace(settings, login=""), is_listed=True, claims=told).role


def dashboard_command(port: int, host: str = "127.0.0.1") -> list[str]:
    """Return the command line of the dashboard's server, which accepts sessions of this server's pages only."""
    command = [*_PANEL_SERVE, "--address", host, "--port", str(port)]
    for name in names_of(host):
        command += ["--allow-websocket-origin", address_of(name, port)]
    if public := urlsplit(Settings.load().public_url).netloc:
        command += ["--allow-websocket-origin", public]
    return command


def free_port(wanted: int | None, host: str = "127.0.0.1") -> int:
    """Return `wanted`, or the first free port from `DEFAULT_PORT` if it is None; raise BadInput if there is none."""
    candidates = [wanted] if wanted is not None else range(DEFAULT_PORT, DEFAULT_PORT + _PORTS_TRIED)
    for port in candidates:
        try:
            with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
                return port
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                why = os.strerror(error.errno or 0)
                raise BadInput(f"port {port} of {host} cannot be used ({why}): give another --host or --port") from None
    raise BadInput(f"port {candidates[0]} is in use; give another with --port")


def check_host(host: str | None, has_login: bool) -> str:
    """Return the address to listen on; raise BadInput if other machines could reach it without a login."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host in (None, "localhost") else host)
    except ValueError:
        raise BadInput(f"--host must be an address of this machine, like 0.0.0.0 or 192.0.2.7, not {host!r}") from None
    if not address.is_loopback and not has_login:
        raise BadInput(
            f"--host {host} is reached from other machines, so it needs --login FILE with names and passwords, as "
            'JSON: {"ada": "a long password"}, or --oauth PROVIDER'
        )
    return str(address)


def names_of(host: str) -> list[str]:
    """Return the names under which a server on this address is reached."""
    own = [] if is_loopback(host) else [socket.gethostname(), socket.getfqdn()]
    return list(dict.fromkeys(["localhost", "127.0.0.1", host, *own]))


def _reached_as(host: str, is_secured: bool) -> str:
    """Return a name for the printed address: one that others can use, too, if they reach `host`."""
    if not ipaddress.ip_address(host).is_unspecified:
        return "localhost" if host == "127.0.0.1" else host
    return socket.getfqdn() if is_secured else own_address() or socket.getfqdn()  # a certificate is for a name


def tls(cert: str | None, key: str | None) -> list[str]:
    """Return Panel's options for TLS; raise BadInput if certificate or key cannot be read, or do not match."""
    if cert is None:
        if key is not None:
            raise BadInput("--key needs --cert FILE")
        return []
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ValueError) as error:  # `ssl.SSLError` is an OSError
        raise BadInput(f"--cert {cert}{f' and --key {key}' if key else ''} cannot be used: {error}") from None
    return ["--ssl-certfile", str(Path(cert).resolve()), *(["--ssl-keyfile", str(Path(key).resolve())] if key else [])]


def guard(settings: Settings, login: str | None = None, oauth: str | None = None) -> tuple[list[str], dict[str, str]]:
    """Return Panel's options and environment that protect the dashboard.

    Sessions and cookies are signed, and forms of other sites rejected. A login file (`login`, or of the settings) or an
    OAuth provider (`oauth`, or of the environment) requires a login. With both, users of the provider need a line in
    the file. Keys are derived from the secret, so all processes of this server and the next have the same. They are
    passed in the environment, which other users of this machine cannot read.
    """
    options, environ = ["--session-ids", "signed", "--enable-xsrf-cookies"], sealing(settings)
    path, provider = login or settings.login, oauth or os.environ.get(PROVIDER, "")
    if path:
        read_login(path)
        environ["JOBKIT_LOGIN"] = str(Path(path).resolve())
    web = Path(jobkit.http.__file__).parent
    if provider:
        check_provider(provider, settings, has_file=bool(path))
        environ[PROVIDER] = provider
        key = base64.urlsafe_b64encode(_key("oauth", settings)).decode()
        environ["PANEL_OAUTH_ENCRYPTION"] = os.environ.get("PANEL_OAUTH_ENCRYPTION") or key
        if settings.public_url and not os.environ.get("PANEL_OAUTH_REDIRECT_URI"):
            environ["PANEL_OAUTH_REDIRECT_URI"] = f"{settings.public_url.rstrip('/')}/login"
        options += ["--oauth-error-template", str(web / "oauth.html"), "--logout-template", str(web / "oauth.html")]
    elif path:
        options += ["--auth-module", str(web / "login.py")]
    return options, environ


def sealing(settings: Settings) -> dict[str, str]:
    """Return the environment with the keys of cookies and sessions."""
    return {name: _key(use, settings).hex() for name, use in SEALING.items()}


def _key(use: str, settings: Settings) -> bytes:
    keys, _ = keys_in(settings.login_secret)
    secret = keys[0] if keys else secrets.token_bytes(32)
    return hmac.new(secret, f"jobkit-{use}\x00{settings.namespace}".encode(), hashlib.sha256).digest()


def check_provider(provider: str, settings: Settings, *, has_file: bool) -> None:
    """Raise BadInput if a login at an OAuth provider cannot work, or gives no user a role; it names the setting."""
    if provider not in _NEEDED:
        raise BadInput(f"{PROVIDER} must be one of {', '.join(_NEEDED)}, not {provider!r}")
    needed = _KEYS if "PANEL_OAUTH_EXTRA_PARAMS" in os.environ else _NEEDED[provider]
    if missing := [name for name in needed if not os.environ.get(name) and name in _NEEDED[provider]]:
        raise BadInput(f"a login by {provider} needs {' and '.join(missing)} in the environment")
    if importlib.util.find_spec("cryptography") is None:
        raise BadInput("OAuth needs the package that encrypts its cookies: pip install cryptography")
    if provider == "auth_code" and not (settings.public_url or os.environ.get("PANEL_OAUTH_REDIRECT_URI")):
        raise BadInput("a login by auth_code needs the address to return to: JOBKIT_PUBLIC_URL=https://jobs.example")
    if not settings.roles and not has_file:
        raise BadInput(
            f"a login at {provider} gives no role by itself; give roles to users, like "
            "JOBKIT_ROLES='you@lab.example=admin,*@lab.example=own'"
        )
