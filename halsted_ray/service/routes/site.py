"""Routes about the service itself: health, readiness, metrics and the documentation page."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from starlette.concurrency import run_in_threadpool

from halsted_ray.errors import OutputError
from halsted_ray.service import api_docs
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.deps import BaseUrl, Components, MetricsReader

router = APIRouter()
READY_S = 5.0
"""How long the model may take to answer before the service counts as not ready."""


@router.get("/docs", include_in_schema=False)
def documentation(request: Request, base: BaseUrl) -> HTMLResponse:
    """The API's description as a page."""
    return HTMLResponse(
        api_docs.render(request.app.openapi(), base), headers={"content-security-policy": api_docs.POLICY}
    )


@router.get("/healthz", tags=["site"])
async def healthz() -> dict[str, Any]:
    """The process answers. It waits for no thread, so it answers also while all threads are busy."""
    return {"status": "ok"}


@router.get("/readyz", tags=["site"])
async def readyz(components: Components) -> dict[str, Any]:
    """200 where the database, the store and a model answer; 503 with the name of the first of them that does not."""
    await run_in_threadpool(_check_storage, components)
    if components.serving_model is None:
        raise OutputError("no model tags clips here")
    try:
        return {"status": "ready", "model": await asyncio.wait_for(components.serving_model(), READY_S)}
    except TimeoutError:
        raise OutputError(f"no model answered within {READY_S:g} s") from None


@router.get("/metrics", tags=["site"], response_class=Response)
def metrics(_caller: MetricsReader, components: Components) -> Response:
    """The metrics of all replicas, for Prometheus: with a key of the role monitor or admin."""
    jobs = components.jobs
    mapped, cleaned = ((jobs.counts(kind), jobs.done_s(kind)) for kind in ("map", "clean"))
    text = components.metrics.render(*mapped, *cleaned, jobs.counts("proxy"))
    return Response(text, media_type="text/plain")


def _check_storage(components: ServiceComponents) -> None:
    """Raises OutputError where the database or the store does not answer."""
    try:
        with components.database.reading() as session:
            session.execute(text("SELECT 1"))
    except DBAPIError:
        raise OutputError("the database does not answer") from None
    components.store.check()
