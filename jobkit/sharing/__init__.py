"""Sharing of an embedded server with other machines: `jobkit share` and `jobkit join`.

A gateway, kept alive by the supervisor of the home, listens on one TLS port. Connections whose ALPN is `http/1.1` are
HTTP (joining, files); all others are Redis, and are forwarded once they have logged in as a member.
"""
