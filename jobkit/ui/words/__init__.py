"""The search box, themes and assets: what all features share. Knows no kit and no session."""
