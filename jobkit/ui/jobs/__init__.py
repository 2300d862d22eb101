"""The table of jobs: search, pages, bulk actions, and the card beside it."""
