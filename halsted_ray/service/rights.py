"""Who may do what with a case: rights by relation to the case, and by role in the tenant. Nothing else decides this.

A person needs both: the relation to the case must give the right, and the role must give the permission that the right
needs. ``docs/reference/rights.md`` is written from these tables, and a test walks every route with every pair.
"""

from __future__ import annotations

from collections.abc import Collection

RIGHTS = {
    "see": "see that the case is there, its length and its jobs",
    "watch": "play the video, and tag clips of it",
    "timeline": "read the map",
    "map": "ask for a map, and stop a job",
    "annotate": "correct the map, and put the corrections into the site's atlas",
    "comment": "read and write comments at a time",
    "describe": "say which procedure it is, when it was and which labels it has, and which files belong together",
    "people": "see whose case it is and with whom it is shared",
    "looks": "see who looked at it",
    "share": "share it, and end a share",
    "keep": "record the consent, and until when it is kept",
    "delete": "delete it",
    "hold": "put it under a legal hold, and end the hold",
    "own": "give it another owner",
    "identity": "read which patient and study it is of, where it came as DICOM",
}
"""Right → what it allows, in words."""

PERMISSION_OF = {
    "see": "read",
    "watch": "read",
    "timeline": "read",
    "map": "write",
    "annotate": "annotate",
    "comment": "read",
    "describe": "write",
    "people": None,
    "looks": None,
    "share": "write",
    "keep": "write",
    "delete": "write",
    "hold": "write",
    "own": "write",
    "identity": "read",
}
"""Right → the permission of ``users.PERMISSIONS`` that a role must have besides; None: any role."""

_VIEW = {"see", "watch", "timeline", "comment"}
RELATIONS: dict[str, frozenset[str]] = {
    "owner": frozenset(_VIEW | {"map", "annotate", "describe", "people", "looks", "share", "keep", "delete"}),
    "surgeon": frozenset(_VIEW | {"map", "annotate", "describe", "people"}),
    "trainee": frozenset(_VIEW | {"people"}),
    "reviewer": frozenset(_VIEW),
    "annotator": frozenset(_VIEW | {"annotate"}),
    "administrator": frozenset(RIGHTS),
    "auditor": frozenset({"people", "looks"}),
    "anyone": frozenset(_VIEW | {"map", "annotate", "describe", "people"}),
    "link": frozenset({"see", "watch", "timeline"}),
    "none": frozenset(),
}
"""Relation to a case → its rights. ``surgeon``, ``trainee``, ``reviewer`` and ``annotator`` come by a share. A reviewer
and an annotator judge without knowing whose case it is. ``administrator`` and ``auditor`` come by the role alone.
``anyone``: everybody of the tenant, for a case whose owner nobody knows. ``link`` comes by a link alone, which may show
less, and only for the routes that take links. ``none``: everybody else."""

ABOUT_RELATIONS = {
    "owner": "whoever uploaded the video, or got it from an administrator",
    "surgeon": "shared as surgeon: took part in the operation, or uploaded the same file",
    "trainee": "shared as trainee: learns from it",
    "reviewer": "shared as reviewer: judges it, and does not learn whose it is",
    "annotator": "shared as annotator: labels it, and does not learn whose it is",
    "administrator": "has the role admin",
    "auditor": "has the role auditor: sees who looked, and no picture",
    "anyone": "anybody of the tenant, where nobody knows the owner (videos of before 0.1.0 whose upload is unknown)",
    "link": "whoever has a read-only link to it, as far as the link shows it",
    "none": "anybody else, also of the same tenant",
}
"""Relation → who that is, in words."""

SHARED_AS = ("surgeon", "trainee", "reviewer", "annotator")
"""The relations that a share can give. Somebody with several shares has the rights of all of them."""

WITHDRAWN_FOR = frozenset({"watch", "timeline", "map", "annotate", "comment"})
"""What nobody but administrators may do once the patient's consent is withdrawn."""


def relations_of(role: str, is_owner: bool, is_owned: bool, shares: Collection[str]) -> tuple[str, ...]:
    """The relations of a user to a case of their tenant.

    ``role``: in the tenant. ``is_owner``: the case is theirs. ``is_owned``: the case has an owner. ``shares``: the
    relations of their shares of the case that have not ended.

    An auditor never gets another relation, whatever was shared with them before they became one. A role without the
    permission ``read`` has no relation at all.
    """
    if role in ("admin", "auditor"):
        return ("administrator",) if role == "admin" else ("auditor",)
    if role == "monitor":
        return ("none",)
    found = ["owner"] if is_owner else []
    found += [relation for relation in SHARED_AS if relation in shares]
    if not is_owned:
        found.append("anyone")
    return tuple(found) or ("none",)


def rights_of(relations: Collection[str], consent: str) -> frozenset[str]:
    """The rights of a user with these relations to a case whose consent is ``consent`` (``cases.CONSENTS``)."""
    rights = frozenset[str]().union(*(RELATIONS[relation] for relation in relations))
    if consent == "withdrawn" and "administrator" not in relations:
        rights -= WITHDRAWN_FOR
    return rights
