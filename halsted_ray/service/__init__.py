"""The service: uploads, mapping jobs and clips over HTTP, on Ray Serve. The work is done by the rest of the package.

A site's state
    settings.py        the settings of a site, from environment variables
    database.py        the tables: tenants, users, keys, videos, uploads, jobs, audit log; migrations/ changes old ones
    object_store.py    where the tenants' bytes lie: a folder or S3
    audit.py           the audit log: who did what, sealed
    backup.py          a copy of a site

Who may do what
    users.py           tenants, users, roles, keys
    sessions.py        sessions of the page, by cookie
    oidc.py            single sign-on with the site's identity provider
    auth.py            who sends a request, and what they may do
    rate_limit.py      how many requests one key may send

What the service does
    uploads.py         parts become a video
    videos.py          a tenant's videos: read, their timelines, deleted
    jobs.py            the queue of mapping jobs
    job_worker.py      does the jobs with the pipeline of the batch job
    served_model.py    which model is served
    clip_tagging.py    tags of a short clip
    prometheus.py      metrics
    components.py      all of these, opened together

The API
    api.py             the application: routes, middleware, answers to errors
    routes/            one file of routes per resource
    deps.py            what routes depend on: components, address, caller
    schemas.py         bodies and answers
    middleware.py      bounds of bodies, headers, log lines
    api_docs.py        the page /docs
    page/              the page for surgeons: three files

Where it runs
    deployments.py     the deployments on Ray Serve
    local_server.py    all of it on this machine, as ``halsted serve run`` starts it

Only deployments.py, local_server.py and job_worker.py use Ray, so the API runs in a test without Ray.
"""
