"""One job: its card in a page and in a notebook, live and as static HTML."""
