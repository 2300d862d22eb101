"""Real ssh servers on 127.0.0.1 or another address of this machine, each with a separate key, home and name."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support import MARK, free_port, wait_until

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or ""


def missing() -> str:
    """Return why this machine has no ssh server for tests; "" if it has."""
    return "" if SSHD and shutil.which("ssh") else "needs ssh and sshd (Debian: openssh-client, openssh-server)"


class SshHosts:
    """Hosts that `ssh -F config` knows by name. All are this machine, with a home each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.running = folder, dict[str, subprocess.Popen[bytes]]()
        self.ports: dict[str, int] = {}
        folder.chmod(0o755)
        self._key("id")
        self.config = folder / "config"
        self.known = folder / "known_hosts"
        self.config.write_text("")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # of all servers of a machine

    @property
    def ssh(self) -> str:
        return f"ssh -F {self.config}"

    def home(self, host: str) -> Path:
        return self.folder / host

    def _key(self, name: str) -> str:
        path = self.folder / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
        return path.with_suffix(".pub").read_text().strip()

    def add(
        self,
        host: str,
        address: str = "127.0.0.1",
        *,
        is_known: bool = True,
        knows_us: bool = True,
        within: Sequence[str] = (),
    ) -> str:
        """Start a server. is_known: its key is in `known_hosts`. knows_us: it accepts our key. within: runs `sshd`."""
        port = self.ports[host] = free_port()
        public = self._key(f"{host}-key")
        self.home(host).mkdir()
        keys = self.folder / f"{host}-authorized"
        keys.write_text((self.folder / "id.pub").read_text() if knows_us else "")
        if is_known:
            with self.known.open("a") as known:
                known.write(f"[{address}]:{port} {public}\n")
        with self.config.open("a") as config:
            config.write(
                f"Host {host}\n  HostName {address}\n  Port {port}\n  User {getpass.getuser()}\n"
                f"  IdentityFile {self.folder / 'id'}\n  IdentitiesOnly yes\n  IdentityAgent none\n"
                f"  UserKnownHostsFile {self.known}\n  GlobalKnownHostsFile /dev/null\n"
            )
        (self.folder / f"{host}.conf").write_text(
            f"ListenAddress {address}\nPort {port}\nHostKey {self.folder / f'{host}-key'}\nPidFile none\n"
            f"AuthorizedKeysFile {keys}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPrintMotd no\n"
            f"KbdInteractiveAuthentication no\nSetEnv HOME={self.home(host)} {MARK}={os.environ.get(MARK, '')}\n"
        )
        self.start(host, address, within)
        return host

    def start(self, host: str, address: str = "127.0.0.1", within: Sequence[str] = ()) -> None:
        with (self.folder / f"{host}.log").open("ab") as log:
            argv = [*within, SSHD, "-D", "-e", "-f", str(self.folder / f"{host}.conf")]
            self.running[host] = subprocess.Popen(argv, stderr=log)

        def answers() -> bool:
            with socket.socket() as client:
                return client.connect_ex((address, self.ports[host])) == 0

        wait_until(answers, what=f"sshd of {host}")

    def stop(self, host: str) -> None:
        """End a server; connections and workers go on."""
        process = self.running.pop(host)
        process.terminate()
        process.wait(20)

    def close(self) -> None:
        for host in list(self.running):
            self.stop(host)
