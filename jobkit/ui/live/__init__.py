"""From the background loop to one browser: components, feeds, and the bridge between them."""
