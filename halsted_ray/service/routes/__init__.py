"""The routes of the API, one file per resource.

uploads.py     POST /v1/uploads and what follows: parts, addresses, completing, aborting
videos.py      /v1/videos: list, show, the video's bytes, clips, delete
library.py     /v1/cases: the files of one operation as one case; what is found, described, put together
case_timelines.py  /v1/cases/{case_id}/timeline, stitches and explanation: what happens when, over all files of a case
trends.py      /v1/home/trend and /v1/home/cohort: one's own cases over time, and what is usual
cases.py       /v1/videos/{video_id}/people and what follows: owner, shares, consent, retention, looks, identity
links.py       /v1/videos/{video_id}/links: read-only links to a case
jobs.py        /v1/videos/{video_id}/maps and /v1/jobs: ask for a map, follow it, cancel it
stitches.py    /v1/videos/{video_id}/stitches: the stitches of a video with their totals
explanations.py  /v1/videos/{video_id}/explanation: what the map says of one moment, and by which rows
annotation_layer.py  /v1/videos/{video_id}/annotations and similar: what people say about the map, and moments alike
search.py      /v1/search: moments of one's cases by example or in words
comments.py    /v1/videos/{video_id}/comments: what people write at a time
timelines.py   /v1/videos/{video_id}/timeline: what happens when, in eight formats
models.py      /v1/models: the model that is served
clips.py       /v1/clips:map: tags of a short clip
keys.py        /v1/keys: the tenant's keys
users.py       /v1/users: with whom a case can be shared
dicomweb.py    /dicomweb/studies: DICOM videos by STOW-RS
audit.py       /v1/audit: the tenant's entries of the audit log
sdk.py         the wire protocol of the published SDK
page.py        the page for surgeons, and signing in to it
site.py        health, readiness, metrics, documentation
"""

from __future__ import annotations

from fastapi import FastAPI

from halsted_ray.service.routes import (
    annotation_layer,
    audit,
    case_timelines,
    cases,
    clips,
    comments,
    dicomweb,
    explanations,
    jobs,
    keys,
    library,
    links,
    models,
    page,
    sdk,
    search,
    site,
    stitches,
    storage,
    timelines,
    trends,
    uploads,
    users,
    videos,
)

ROUTERS = (
    uploads.router,
    dicomweb.router,
    storage.router,
    videos.router,
    cases.router,
    links.router,
    library.router,
    case_timelines.router,
    library.home_router,
    trends.router,
    jobs.video_router,
    timelines.router,
    stitches.router,
    explanations.router,
    annotation_layer.router,
    search.router,
    comments.router,
    jobs.router,
    models.router,
    clips.router,
    keys.router,
    users.router,
    audit.router,
    sdk.router,
    page.router,
    site.router,
)


def include_routes(app: FastAPI) -> None:
    """Adds all routes of the service to ``app``."""
    for router in ROUTERS:
        app.include_router(router)
