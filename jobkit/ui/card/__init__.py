"""The cards of one job and of many: in a page and in a notebook, live and as static HTML."""
