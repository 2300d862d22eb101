"""A client without jobkit: `pip install httpx httpx-sse`, then `python client.py http://localhost:5006`."""

import sys

import httpx
from httpx_sse import connect_sse

with httpx.Client(base_url=sys.argv[1], timeout=60) as http:
    job = (
        http.post("/api/jobs", json={"task": sys.argv[2] if len(sys.argv) > 2 else "estimate_pi"})
        .raise_for_status()
        .json()
    )
    with connect_sse(http, "GET", job["events"]) as stream:
        for event in stream.iter_sse():
            print(event.event, event.json().get("changes", {}).get("progress") or "")
    print(http.get(f"{job['url']}/result").json())
