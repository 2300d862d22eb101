"""joblib's `Parallel` on the queue: scikit-learn's `n_jobs=-1` uses the workers.

    import joblib, jobkit.joblib

    with joblib.parallel_config("jobkit"):
        GridSearchCV(model, grid, n_jobs=-1).fit(X, y)

Importing this module registers the backend. Each batch of calls is a job; joblib makes batches of short calls larger.
"""

from __future__ import annotations

from jobkit.features import modules

for _module in modules("joblib"):
    JobkitBackend = _module.JobkitBackend
