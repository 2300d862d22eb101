"""Many jobs as one card: counters, plot and results."""
