"""The page of one job's log."""
