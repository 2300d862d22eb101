"""An embedded server for other machines: `jobkit share` and `jobkit join`.

For: people with a second machine and without a Redis on the network. `jobkit share` prints a word, `jobkit join WORD`
there makes that machine a member (`members`), with separate credentials. The supervisor of the home keeps a gateway:
one TLS port (`certificate`). Connections whose ALPN is `http/1.1` are HTTP (`web`: joining, keys; `files`: files of
jobs, which joined machines reach by `places`); all others are Redis, and are forwarded once they have logged in as a
member. Addresses `joined://` with their keys are ground: `jobkit/joined.py`, `keys.py`.
In Redis: a user of the server for each member, with the rights of its role (`rights`). All else is in `sharing/` of
the home, and in `joined/` of the home of a machine that joined.
Promise: a member reaches one namespace, with its role, until it leaves or is revoked. Then its connections are cut, and
keys that it knew are replaced. A word names the certificate, and lets as many machines in as it was made for.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(
    name="sharing",
    parts=frozenset({"doctor", "places"}),
    commands={
        "share": "Let other machines run jobs of this one's embedded server.",
        "join": "Run jobs of another machine that shares its server.",
    },
)
