"""Jobs in a FastAPI app: `uvicorn examples.fastapi_app:app`.

The app submits jobs by itself and streams one to its page; the whole API of jobkit stands beside it at /jobkit.
"""

from collections.abc import AsyncIterator

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse

import jobkit
import jobkit.demo
from jobkit.http import asgi_app

kit = jobkit.connect()
app = FastAPI(title="Reports")
app.mount("/jobkit", asgi_app(kit))


@app.post("/reports", status_code=202)
async def make_report(points: int = 2_000_000) -> dict[str, str]:
    """Start a report; answers at once."""
    try:
        job = await kit.aio.submit("estimate_pi", points=points)
    except jobkit.InvalidParams as error:
        raise HTTPException(422, str(error)) from None
    return {"id": job.id, "events": f"/reports/{job.id}/events", "job": f"/jobkit/api/jobs/{job.id}"}


@app.get("/reports/{job_id}/events")
async def follow(job_id: str) -> StreamingResponse:
    """Its state, a line each time it moves, to its end."""
    try:
        job = await kit.aio.get(job_id)
    except jobkit.JobNotFound:
        raise HTTPException(404, "no such report") from None

    async def lines() -> AsyncIterator[str]:
        async for event in kit.aio.job_events(job.id):
            if "state" in event.data:
                yield f"data: {event.data['state']}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")
