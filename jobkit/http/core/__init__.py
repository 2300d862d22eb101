"""From a request to its response: messages, routes, access, the call, the tail of events and streams of it."""
