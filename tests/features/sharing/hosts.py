"""Another machine for tests: a network namespace behind a slow link."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator

import pytest

#: Kinds of slow links: 2.5 MB/s; 40 ms each way and one lost packet of a hundred, if the kernel can do that.
LINKS = ("netem delay 40ms loss 1% rate 20mbit", "tbf rate 20mbit burst 64kb latency 400ms")


@pytest.fixture
def far() -> Iterator[tuple[str, str]]:
    """Return a network namespace behind such a link, and the address of this machine from there."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("tc") is None:
        pytest.skip("network namespaces need root, ip and tc (Debian: iproute2)")
    name, link, net = f"jk{secrets.token_hex(3)}", f"jk{secrets.token_hex(3)}", f"10.214.{secrets.randbelow(250)}"
    run_ip("netns", "add", name)
    try:
        run_ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        run_ip("addr", "add", f"{net}.1/30", "dev", link)
        run_ip("link", "set", link, "up")
        run_ip("-n", name, "addr", "add", f"{net}.2/30", "dev", "eth0")
        run_ip("-n", name, "link", "set", "eth0", "up")
        if not any(_shaped(link, name, kind.split()) for kind in LINKS):
            pytest.skip("this kernel shapes no traffic")
        yield name, f"{net}.1"
    finally:
        run_ip("netns", "del", name)


def _shaped(link: str, name: str, kind: list[str]) -> bool:
    """Return whether the kernel can make both ends of a link so."""
    try:
        for end in ([], ["-n", name]):
            device = "eth0" if end else link
            _call("tc", *end, "qdisc", "replace", "dev", device, "root", *kind)
        return True
    except subprocess.CalledProcessError:
        return False


def run_ip(*command: str) -> None:
    """Run a command of `ip`."""
    _call("ip", *command)


def _call(*command: str) -> None:
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
