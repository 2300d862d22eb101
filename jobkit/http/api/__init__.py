"""Handlers of the REST API and its event streams, and the types of what they take and return."""
