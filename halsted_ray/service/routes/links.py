"""/v1/videos/{video_id}/links: read-only links to a case for people without an account."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter

from halsted_ray.service import links, schemas
from halsted_ray.service.deps import BaseUrl, Components, Id, SharedCase

router = APIRouter(prefix="/v1/videos/{video_id}/links")


@router.post("", status_code=201)
def add_link(case: SharedCase, components: Components, address: BaseUrl, new: schemas.NewLink) -> schemas.LinkMade:
    """A link with which whoever has it looks at this one case, or at a part of it, and changes nothing. Its ``url`` is
    shown only this once. Each look is an entry of the audit log with the link's id. 409 while the case can be shown to
    nobody outside: its video is not cleaned, its consent is withdrawn, or it is under a legal hold."""
    with components.database.writing() as session:
        made, token = links.add_link(session, case, new.days, new.from_s, new.to_s, tuple(new.shows))
    return schemas.LinkMade.model_validate({**asdict(made), "url": f"{address}#shared={token}"})


@router.get("")
def list_links(case: SharedCase, components: Components) -> list[schemas.LinkShown]:
    """The links to the case that have not ended, the oldest first."""
    return [schemas.LinkShown.model_validate(asdict(link)) for link in components.cases.links(case)]


@router.delete("/{link_id}", status_code=204)
def end_link(case: SharedCase, components: Components, link_id: Id) -> None:
    """Ends a link at once, for everybody who has it."""
    with components.database.writing() as session:
        links.end_link(session, case, link_id)
