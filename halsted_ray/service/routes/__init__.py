"""The routes of the API, one file per resource.

uploads.py     POST /v1/uploads and what follows: parts, addresses, completing, aborting
videos.py      /v1/videos: list, show, the video's bytes, delete
jobs.py        /v1/videos/{video_id}/maps and /v1/jobs: ask for a map, follow it, cancel it
timelines.py   /v1/videos/{video_id}/timeline: what happens when, in five formats
models.py      /v1/models: the model that is served
clips.py       /v1/clips:map: tags of a short clip
keys.py        /v1/keys: the tenant's keys
audit.py       /v1/audit: the tenant's entries of the audit log
sdk.py         the wire protocol of the published SDK
page.py        the page for surgeons, and signing in to it
site.py        health, readiness, metrics, documentation
"""

from __future__ import annotations

from fastapi import FastAPI

from halsted_ray.service.routes import (
    audit,
    clips,
    jobs,
    keys,
    models,
    page,
    sdk,
    site,
    timelines,
    uploads,
    videos,
)

ROUTERS = (
    uploads.router,
    videos.router,
    jobs.video_router,
    timelines.router,
    jobs.router,
    models.router,
    clips.router,
    keys.router,
    audit.router,
    sdk.router,
    page.router,
    site.router,
)


def include_routes(app: FastAPI) -> None:
    """Adds all routes of the service to ``app``."""
    for router in ROUTERS:
        app.include_router(router)
