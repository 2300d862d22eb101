"""Tokens of the API, and what all logins share. The login page itself is `jobkit/http/login.py`."""
