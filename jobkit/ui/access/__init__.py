"""Who a session belongs to, and the gate for every action of a page."""
