"""The dependencies that routes declare: the components, the service's address, and the caller of the request."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request

from halsted_ray.service.auth import require_permission, session_cookie
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.users import Caller


def components_of(request: Request) -> ServiceComponents:
    """The components that this application was created with."""
    components: ServiceComponents = request.app.state.components
    return components


def base_url(request: Request) -> str:
    """The service's address as its clients know it, with a slash at its end."""
    return f"{(components_of(request).settings.public_url or str(request.base_url)).rstrip('/')}/"


Components = Annotated[ServiceComponents, Depends(components_of)]
BaseUrl = Annotated[str, Depends(base_url)]

Reader = Annotated[Caller, Depends(require_permission("read"))]
"""A caller who may see videos, maps and models, and tag clips."""
Writer = Annotated[Caller, Depends(require_permission("write"))]
"""A caller who may upload, map, cancel and delete."""
KeyManager = Annotated[Caller, Depends(require_permission("keys"))]
"""A caller who may issue and revoke the tenant's keys."""
Auditor = Annotated[Caller, Depends(require_permission("audit"))]
"""A caller who may read the audit log."""
SessionCookie = Annotated[str | None, Depends(session_cookie)]
"""The page's cookie, if the browser sent one."""

Id = Annotated[str, Path(pattern=r"^[0-9a-f]{1,64}$")]
"""An id of this service in a path."""
