"""The dashboard: pages, header, notifications."""
