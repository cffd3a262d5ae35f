"""/v1/users: with whom in the tenant a case can be shared."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from halsted_ray.service import schemas, users
from halsted_ray.service.deps import Components, Writer

router = APIRouter(prefix="/v1/users")


@router.get("")
def list_users(
    caller: Writer,
    components: Components,
    find: Annotated[str, Query(max_length=100)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[schemas.UserShown]:
    """The users of the caller's tenant whose role sees cases, in the order of their names. ``find``: only those whose
    name or user name holds this, in capitals or not."""
    with components.database.reading() as session:
        found = users.who_see_cases(session, caller.tenant_id, find)[:limit]
        return [schemas.UserShown(user=one.name, name=users.shown_name(one), role=one.role) for one in found]
