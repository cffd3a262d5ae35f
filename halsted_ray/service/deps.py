"""The dependencies that routes declare: the components, the service's address, and the caller of the request."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from halsted_ray.service.addresses import base_url
from halsted_ray.service.auth import require_permission, session_cookie
from halsted_ray.service.case_access import (
    Id,
    case_with,
    checks,
    job_with,
    operation_with,
    operation_with_any,
    own_upload,
)
from halsted_ray.service.cases import Case
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.library import LibraryCase
from halsted_ray.service.tables import Job
from halsted_ray.service.users import Caller

__all__ = ["Id", "base_url"]


async def components_of(request: Request) -> ServiceComponents:
    """The components that this application was created with. (``async``: FastAPI calls others in a thread, 0.2 ms.)"""
    components: ServiceComponents = request.app.state.components
    return components


Components = Annotated[ServiceComponents, Depends(components_of)]
BaseUrl = Annotated[str, Depends(base_url)]

Reader = Annotated[Caller, Depends(require_permission("read"))]
"""A caller who may see models and their cases, and tag clips."""
Writer = Annotated[Caller, Depends(require_permission("write"))]
"""A caller who may upload."""
KeyManager = Annotated[Caller, Depends(require_permission("keys"))]
"""A caller who may issue and revoke the tenant's keys."""
Auditor = Annotated[Caller, Depends(require_permission("audit"))]
"""A caller who may read the audit log."""
MetricsReader = Annotated[Caller, Depends(require_permission("metrics"))]
"""A caller who may read the metrics of the site."""
AnyCaller = Annotated[Caller, Depends(require_permission(None))]
"""Any valid caller."""

SeenCaseOrLink = Annotated[Case, Depends(case_with("see", takes_links=True))]
WatchedCaseOrLink = Annotated[Case, Depends(case_with("watch", takes_links=True))]
ReadCaseOrLink = Annotated[Case, Depends(case_with("timeline", takes_links=True))]
"""As ``SeenCase``, ``WatchedCase`` and ``ReadCase``, also through a link: a route that takes these shows no more than
``Case.link`` says."""
SeenCase = Annotated[Case, Depends(case_with("see"))]
WatchedCase = Annotated[Case, Depends(case_with("watch"))]
ReadCase = Annotated[Case, Depends(case_with("timeline"))]
MappedCase = Annotated[Case, Depends(case_with("map"))]
AnnotatedCase = Annotated[Case, Depends(case_with("annotate"))]
CommentedCase = Annotated[Case, Depends(case_with("comment"))]
PeopleOfCase = Annotated[Case, Depends(case_with("people"))]
LooksAtCase = Annotated[Case, Depends(case_with("looks"))]
SharedCase = Annotated[Case, Depends(case_with("share"))]
KeptCase = Annotated[Case, Depends(case_with("keep"))]
HeldCase = Annotated[Case, Depends(case_with("hold"))]
OwnedCase = Annotated[Case, Depends(case_with("own"))]
IdentifiedCase = Annotated[Case, Depends(case_with("identity"))]
DeletedCase = Annotated[Case, Depends(case_with("delete"))]
"""The case of ``video_id``, where the caller has the right (``rights.RIGHTS``)."""
SeenOperation = Annotated[LibraryCase, Depends(operation_with("see"))]
DescribedOperation = Annotated[LibraryCase, Depends(operation_with("describe"))]
DeletedOperation = Annotated[LibraryCase, Depends(operation_with("delete"))]
"""The case of ``case_id`` with its files, where the caller has the right to each of those."""
ReadOperation = Annotated[LibraryCase, Depends(operation_with_any("timeline"))]
"""The same, where the caller has the right to one of the files or more."""
SeenJob = Annotated[Job, Depends(job_with("see"))]
MappedJob = Annotated[Job, Depends(job_with("map"))]
"""The job of ``job_id``, where the caller has the right to its case."""
OwnUpload = Depends(own_upload)
"""Refuses an upload that somebody else began."""
ChecksSee, ChecksWatch, ChecksMap = Depends(checks("see")), Depends(checks("watch")), Depends(checks("map"))
ChecksTimeline, ChecksUpload, ChecksKey = Depends(checks("timeline")), Depends(checks("upload")), Depends(checks("key"))
ChecksDelete, ChecksDescribe = Depends(checks("delete")), Depends(checks("describe"))
ChecksIdentity = Depends(checks("identity"))
"""Declare what a route checks itself: of a case, an upload or a key that only its body names, or of a job by its
kind."""

SessionCookie = Annotated[str | None, Depends(session_cookie)]
"""The page's cookie, if the browser sent one."""
