"""The table of jobs: search, pages, bulk actions, comparison, and the card beside it."""
