"""Sessions and their persons, and the gate for every action of a page."""
