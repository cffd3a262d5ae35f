"""The service: uploads, mapping jobs and clips over HTTP, on Ray Serve. The work is done by the rest of the package.

A site's state
    settings.py        the settings of a site, from environment variables
    database.py        the tables: tenants, users, keys, videos, uploads, jobs, audit log; migrations/ changes old ones
    ballast.py         room on a disk that only the database may have
    object_store.py    where the tenants' bytes lie: a folder or S3
    audit.py           the audit log: who did what, sealed
    audit_export.py    its newest digest, written outside on a schedule, and the log held against that
    audit_places.py    where digests go: a folder, a bucket, a log server
    backup.py          a copy of a site

Who may do what
    users.py           tenants, users, roles, keys
    sessions.py        sessions of the page, by cookie
    links.py           read-only links to one case
    oidc.py            single sign-on with the site's identity provider
    auth.py            who sends a request, and what they may do
    rights.py          who may do what with a case: the tables
    route_access.py    what each route asks of its caller, and the page that says so
    rate_limit.py      how many requests one key may send

What the service does
    uploads.py         parts become a video
    upload_content.py  the id of a video, from all of its bytes
    multipart.py       the parts of a body while it comes
    dicom_instances.py DICOM videos by STOW-RS become uploads
    case_identities.py which patient and study a video is of
    storage_room.py    what a tenant may keep, and what stays free on the disk
    orphans.py         removes what nobody owns from the store
    annotations.py     what people say about a map: read and changed; annotation_tables.py: the tables
    annotation_log.py  the changes as values: what holds, who contradicts whom
    annotation_timeline.py, annotation_samples.py   what people say as rows of a timeline, as samples of an atlas
    atlas_entries.py   what of it is in the site's atlas
    moment_cache.py    moments of the videos that were searched last, in memory
    similar_moments.py moments that look like one or that words describe, by stored vectors
    search_schemas.py  body and answer of a search of moments
    comments.py        comments at a time; identifying_text.py: what in them looks like a name
    case_people.py     who wrote something, as a caller may know them
    videos.py          a tenant's videos: read, their timelines, deleted
    clip_cutting.py    a part of a case as a clip
    case_reports.py    the map of a case as DICOM SR or FHIR
    playback.py        whether browsers play a video, or a copy of it
    proxy_copy.py      makes that copy
    jobs.py            the queue of jobs
    job_worker.py      does the jobs with the pipeline of the batch job
    job_process.py     the process in which a job is done, which can be ended at any moment
    served_model.py    which model is served
    clip_tagging.py    tags of a short clip
    prometheus.py      metrics
    components.py      all of these, opened together

The API
    api.py             the application: routes, middleware, answers to errors
    routes/            one file of routes per resource
    deps.py            what routes depend on: components, address, caller
    schemas.py         bodies and answers; annotation_schemas.py: of what people say
    middleware.py      bounds of bodies, headers, log lines
    api_docs.py        the page /docs
    page/              the page for surgeons, built from serve/web

Where it runs
    deployments.py     the deployments on Ray Serve
    local_server.py    all of it on this machine, as ``halsted serve run`` starts it

Only deployments.py, local_server.py, job_worker.py and job_process.py use Ray, so the API runs in a test without Ray.
"""
