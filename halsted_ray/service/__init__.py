"""The service: uploads, mapping jobs and clips over HTTP, on Ray Serve, thin over ``halsted_ray``.

    settings.py    what a site decides, from the environment; config.yaml: replicas and resources
    database.py    tenants, keys, videos, uploads, jobs, audit log (migrations/ brings an older one up to date)
    people.py      who a key belongs to and what they may;  oidc.py  or a token;  sessions.py  or a browser's cookie
    audit.py       who did what, sealed
    store.py       where tenants' bytes lie: a folder or S3
    uploads.py     parts → a video;  videos.py  a video → its timeline, or gone;  jobs.py  the queue, fair and durable
    models.py      which model is served;  clips.py  clip and instruction → tags;  mapper.py  job → maps
    service.py     all of these put together;  metrics.py  its figures
    backup.py      a copy of the site;  docs.py  the page /docs
    guard.py       the door of the API;  shapes.py  its bodies;  routes.py  its version 1;  api.py  the application
    page/          the page for surgeons over the same: three files, and signing in
    sdk.py         the published SDK's wire protocol over the same
    app.py         the deployments on Ray Serve;  __main__.py  the operator's commands

Nothing but app.py, mapper.py and __main__.py knows Ray, so the API runs in a test without it.
"""
