"""The client: `Kit` submits and finds jobs; `Job` and `Batch` are live handles."""
