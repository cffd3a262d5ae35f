"""/v1/videos/{video_id}/people, shares, owner, keeping, looks and identity: whose case it is, and who looked at it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from halsted_ray.service import schemas, users
from halsted_ray.service.case_identities import read_identities
from halsted_ray.service.cases import Case
from halsted_ray.service.deps import (
    Components,
    HeldCase,
    Id,
    IdentifiedCase,
    KeptCase,
    LooksAtCase,
    OwnedCase,
    PeopleOfCase,
    SharedCase,
)

router = APIRouter(prefix="/v1/videos/{video_id}")


@router.get("/people")
def show_people(case: PeopleOfCase, components: Components) -> schemas.PeopleShown:
    """Whose case it is, with whom it is shared now, and which links show it to others."""
    owner, people = components.cases.people(case)
    return schemas.PeopleShown(
        owner=owner.name if owner else None,
        owner_name=users.shown_name(owner) if owner else None,
        shares=[schemas.ShareShown(**asdict(person)) for person in people],
        links=[schemas.LinkShown.model_validate(asdict(link)) for link in components.cases.links(case)],
    )


@router.post("/shares", status_code=201)
def share_case(case: SharedCase, components: Components, new: schemas.NewShare) -> schemas.ShareShown:
    """Shares the case with a user of the tenant until the share expires. A share of the same kind is replaced."""
    return schemas.ShareShown(**asdict(components.cases.share(case, new.user, new.relation, new.days)))


@router.delete("/shares/{share_id}", status_code=204)
def end_share(case: SharedCase, components: Components, share_id: Id) -> None:
    """Ends a share at once."""
    components.cases.end_share(case, share_id)


@router.put("/owner", status_code=204)
def give_case(case: OwnedCase, components: Components, new: schemas.NewOwner) -> None:
    """Gives the case another owner."""
    components.cases.give(case, new.user)


@router.patch("/keeping")
def keep_case(case: KeptCase, components: Components, changes: schemas.Keeping) -> schemas.KeepingShown:
    """Records the patient's consent, and until when the case is kept. What is left out stays as it is. A withdrawn
    consent hides picture and map from everybody but administrators; the case is deleted after some days."""
    return _kept(components, case, consent=changes.consent, keep_until_s=changes.keep_until_s)


@router.put("/hold")
def hold_case(case: HeldCase, components: Components, hold: schemas.Hold) -> schemas.KeepingShown:
    """Begins or ends a legal hold. While it lasts, nobody and nothing deletes the case."""
    return _kept(components, case, legal_hold=hold.legal_hold)


@router.get("/looks")
def show_looks(
    case: LooksAtCase,
    components: Components,
    after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[dict[str, Any]]:
    """Who did what with this case: its entries of the audit log behind the number ``after``, also of refused looks."""
    names = ("seq", "at_s", "actor", "action", "detail")
    return [{name: getattr(entry, name) for name in names} for entry in components.cases.looks(case, after, limit)]


@router.get("/identity")
def show_identity(case: IdentifiedCase, components: Components) -> list[schemas.IdentityShown]:
    """Which patient, study and instance the case is of: one entry per DICOM instance that held its video, none where
    it did not come as DICOM. Each look is an entry of the audit log."""
    found = read_identities(components.database, case)
    return [schemas.IdentityShown.model_validate(asdict(subject)) for subject in found]


def _kept(components: Components, case: Case, **changes: Any) -> schemas.KeepingShown:
    video = components.cases.keep(case, **changes)
    return schemas.KeepingShown(consent=video.consent, keep_until_s=video.keep_until_s, legal_hold=video.legal_hold)
