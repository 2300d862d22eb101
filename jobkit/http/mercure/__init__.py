"""Mercure's hub at `/.well-known/mercure`, and the client of an external hub."""
