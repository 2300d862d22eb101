"""Failed jobs in groups."""
