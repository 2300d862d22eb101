"""Facts of what made a result."""
