"""What each route of the API asks of its caller and shows to them, written down by hand, a second time.

A route that is not in ``ROUTES`` fails the tests that walk every route. Whoever adds a route adds it here: what the
role must have, what the caller must have of the case, and whether the answer holds anything of its picture or its map.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

NO_KEY = "no key"
ROLES = {
    "surgeon": {"read", "write", "annotate"},
    "trainee": {"read"},
    "reviewer": {"read"},
    "annotator": {"read", "annotate"},
    "admin": {"read", "write", "annotate", "keys", "audit", "metrics"},
    "auditor": {"audit"},
    "monitor": {"metrics"},
}
"""Role → its permissions."""
VIEW = {"see", "watch", "timeline", "comment"}
RELATIONS = {
    "owner": VIEW
    | {"map", "annotate", "describe", "people", "looks", "share", "keep", "delete", "upload", "key", "mine"},
    "surgeon": VIEW | {"map", "annotate", "describe", "people"},
    "trainee": VIEW | {"people"},
    "reviewer": VIEW,
    "annotator": VIEW | {"annotate"},
    "anyone": VIEW | {"map", "annotate", "describe", "people"},
    "none": set(),
    "expired": set(),
    "admin": VIEW
    | {
        "map",
        "annotate",
        "describe",
        "people",
        "looks",
        "share",
        "keep",
        "delete",
        "hold",
        "own",
        "identity",
        "upload",
        "key",
    },
    "auditor": {"people", "looks"},
    "monitor": set(),
}
"""Relation → what it gives. ``owner`` also began the upload and has the key. The last three come by the role and take
the place of every other relation, but for the own key."""
NEEDS_ROLE = (
    {right: "read" for right in (*VIEW, "identity")}
    | dict.fromkeys(("map", "describe", "share", "keep", "delete", "hold", "own"), "write")
    | {"annotate": "annotate"}
)
"""Right → the permission that it needs besides; ``people`` and ``looks`` need none."""


@dataclass(frozen=True)
class Route:
    """``permission``: of the role; None: every role; ``NO_KEY``. ``right``: of the caller, see ``RELATIONS``.
    ``look``: the action in the audit log where the answer shows picture or map; None: it shows nothing of them.
    ``body``, ``headers``, ``query``: what is sent, with names in braces for ids. ``is_filter``: without the right the
    answer is empty and no refusal. ``takes_links``: also whoever looks through a link may use it."""

    permission: str | None = None
    right: str | None = None
    look: str | None = None
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    query: str = ""
    is_filter: bool = False
    takes_links: bool = False


UNKNOWN = {"user": "nobody-of-this-name"}
RANGE = {"Range": "bytes=100-4099"}
CLIP = {"instruction": "map procedure type", "start_s": 1, "stop_s": 3}
ADDED = {"revision": 0, "changes": [{"op": "add", "tag": "step", "category": "Suturing", "start_s": 1, "stop_s": 3}]}
SDK = {"username": "{user}"}
ROUTES = {
    "POST /v1/uploads": Route("write", body={}),
    "GET /v1/uploads/{upload_id}": Route("write", "upload"),
    "PUT /v1/uploads/{upload_id}/parts/{number}": Route("write", "upload", body=b"x"),
    "PUT /v1/uploads/{upload_id}/parts/{number}/signed": Route(NO_KEY, body=b"x", query="expires=1&signature=a"),
    "POST /v1/uploads/{upload_id}/parts/{number}/address": Route("write", "upload"),
    "POST /v1/uploads/{upload_id}/complete": Route("write", "upload"),
    "DELETE /v1/uploads/{upload_id}": Route("write", "upload"),
    "GET /v1/storage": Route("read"),
    "GET /v1/videos": Route("read", "see", is_filter=True),
    "GET /v1/videos/{video_id}": Route("read", "see", takes_links=True),
    "GET /v1/videos/{video_id}/content": Route("read", "watch", "video.read", headers=RANGE, takes_links=True),
    "GET /v1/videos/{video_id}/certificate": Route("read", "see"),
    "POST /v1/videos/{video_id}/certificate/accept": Route("write", "map"),
    "HEAD /v1/videos/{video_id}/content": Route("read", "watch", takes_links=True),
    "GET /v1/videos/{video_id}/clip": Route(
        "read", "watch", "clip.read", query="start_s=1&stop_s=2&labels=burnt", takes_links=True
    ),
    "POST /v1/videos/{video_id}/proxy": Route("read", "watch"),
    "DELETE /v1/videos/{video_id}": Route("write", "delete"),
    "GET /v1/videos/{video_id}/people": Route(None, "people"),
    "POST /v1/videos/{video_id}/shares": Route("write", "share", body=UNKNOWN | {"relation": "trainee"}),
    "DELETE /v1/videos/{video_id}/shares/{share_id}": Route("write", "share"),
    "PUT /v1/videos/{video_id}/owner": Route("write", "own", body=UNKNOWN),
    "PATCH /v1/videos/{video_id}/keeping": Route("write", "keep", body={"consent": "given"}),
    "PUT /v1/videos/{video_id}/hold": Route("write", "hold", body={"legal_hold": True}),
    "POST /v1/videos/{video_id}/links": Route("write", "share", body={"days": 1}),
    "GET /v1/videos/{video_id}/links": Route("write", "share"),
    "DELETE /v1/videos/{video_id}/links/{link_id}": Route("write", "share"),
    "GET /v1/videos/{video_id}/looks": Route(None, "looks"),
    "GET /v1/videos/{video_id}/identity": Route("read", "identity"),
    "POST /v1/videos/{video_id}/maps": Route("write", "map", body={}),
    "GET /v1/videos/{video_id}/maps": Route("read", "see"),
    "GET /v1/videos/{video_id}/timeline": Route("read", "timeline", "timeline.read", takes_links=True),
    "HEAD /v1/videos/{video_id}/timeline": Route("read", "timeline", "timeline.read", takes_links=True),
    "GET /v1/videos/{video_id}/stitches": Route("read", "timeline", "timeline.read"),
    "GET /v1/videos/{video_id}/explanation": Route(
        "read", "timeline", "timeline.read", query="at_s=1", takes_links=True
    ),
    "GET /v1/videos/{video_id}/annotations": Route("read", "timeline", "timeline.read"),
    "POST /v1/videos/{video_id}/annotations": Route("annotate", "annotate", "annotation.change", body=ADDED),
    "GET /v1/videos/{video_id}/annotations/history": Route("read", "timeline", "timeline.read"),
    "GET /v1/videos/{video_id}/annotations/agreement": Route("read", "timeline", "timeline.read"),
    "GET /v1/videos/{video_id}/annotations/timeline": Route("read", "timeline", "timeline.read"),
    "POST /v1/videos/{video_id}/annotations/commit": Route("annotate", "annotate"),
    "GET /v1/videos/{video_id}/similar": Route("read", "watch", "timeline.read", query="start_s=0&stop_s=2.5"),
    "POST /v1/search": Route("read", "watch", "timeline.read", body={"video_id": "{video_id}", "at_s": 1}),
    "GET /v1/videos/{video_id}/comments": Route("read", "comment"),
    "POST /v1/videos/{video_id}/comments": Route("read", "comment", body={"at_s": 1, "text": "look here"}),
    "DELETE /v1/videos/{video_id}/comments/{comment_id}": Route("read", "comment"),
    "GET /v1/videos/{video_id}/poster": Route("read", "watch", "poster.read"),
    "GET /v1/cases": Route("read", "see", "summary.read", is_filter=True),
    "POST /v1/cases": Route("write", "describe", "summary.read", body={"video_ids": ["{video_id}"]}),
    "GET /v1/cases/{case_id}": Route("read", "see", "summary.read"),
    "GET /v1/cases/{case_id}/timeline": Route("read", "timeline", "timeline.read"),
    "GET /v1/cases/{case_id}/stitches": Route("read", "timeline", "timeline.read"),
    "GET /v1/cases/{case_id}/explanation": Route("read", "timeline", "timeline.read", query="at_s=1"),
    "PATCH /v1/cases/{case_id}": Route("write", "describe", "summary.read", body={"labels": ["teaching"]}),
    "DELETE /v1/cases/{case_id}": Route("write", "describe"),
    "DELETE /v1/cases/{case_id}/files": Route("write", "delete"),
    "GET /v1/home": Route("read", "mine", "summary.read", is_filter=True),
    "GET /v1/home/trend": Route("read", "mine", "summary.read", is_filter=True),
    "GET /v1/home/cohort": Route("read", query="procedure=Prostatectomy"),
    "POST /v1/sample-case": Route("write"),
    "GET /v1/jobs/{job_id}": Route("read", "see"),
    "POST /v1/jobs/{job_id}/cancel": Route("write", "map"),
    "GET /v1/jobs/{job_id}/events": Route("read", "see"),
    "GET /v1/models": Route("read"),
    "POST /v1/clips:map": Route("read", "watch", "clip.read", body=CLIP | {"video_id": "{video_id}"}),
    "POST /v1/keys": Route("keys", body={"user": "new", "role": "trainee"}),
    "POST /v1/keys/{key_id}:rotate": Route(None, "key"),
    "GET /v1/keys": Route("keys"),
    "GET /v1/users": Route("write"),
    "DELETE /v1/keys/{key_id}": Route("keys"),
    "GET /v1/audit": Route("audit", query="after={seq}"),
    "POST /dicomweb/studies": Route("write", body=b"x"),
    "POST /dicomweb/studies/{study_uid}": Route("write", body=b"x"),
    "POST /create/invoke": Route("write", body=SDK | {"video_id": "own"}),
    "POST /upload/invoke": Route(
        "write", "upload", body=SDK | {"video_id": "own", "part_number": 1, "upload_id": "{upload_id}"}
    ),
    "POST /complete/invoke": Route(
        "write", "upload", body=SDK | {"video_id": "own", "parts": [], "upload_id": "{upload_id}"}
    ),
    "POST /data/upload-json": Route(
        "write",
        "timeline",
        body=SDK | {"extra_inputs": {"endpoint": "processing", "video_id": "own", "clip_id": "{job_id}-0000"}},
    ),
    "POST /process/invoke": Route(
        "write", "timeline", body=SDK | {"endpoint": "processing", "extra_inputs": {"clip_id": "{job_id}-0000"}}
    ),
    "POST /data/list-objects": Route(
        "write", "timeline", body={"path_to_s3_uri": "halsted://{job_id}/0000.json"}, is_filter=True
    ),
    "POST /data/get-file": Route(
        "write", "timeline", "timeline.read", body={"path_to_s3_uri": "halsted://{job_id}/0000.json"}
    ),
    "GET /metrics": Route("metrics"),
    **{
        f"GET {path}": Route(NO_KEY)
        for path in (
            "/",
            "/assets/{name}",
            "/docs",
            "/healthz",
            "/readyz",
            "/session",
            "/session/sign-on",
        )
    },
    "GET /session/signed-on": Route(NO_KEY, query="state=a"),
    "POST /session": Route(NO_KEY, body={"key": "hk_00_wrong"}),
    "POST /session/setup": Route(NO_KEY, body={"token": "wrong", "tenant": "north", "user": "root"}),
    "POST /session/link": Route(NO_KEY, body={"token": "wrong"}),
    "DELETE /session": Route(NO_KEY),
}
OTHER_RIGHTS = {
    "POST /process/invoke": {"map"},
    "POST /v1/jobs/{job_id}/cancel": {"delete"},
    "GET /v1/videos/{video_id}/clip": {"timeline"},
    "GET /v1/videos/{video_id}/timeline": {"identity"},
    "HEAD /v1/videos/{video_id}/timeline": {"identity"},
    "POST /v1/uploads": {"describe"},
}
"""Route → what it asks for besides, with another body or for a job of another kind."""


def may(role: str, relation: str, route: Route) -> bool:
    """Whether somebody with this role in the tenant and this relation to the case may use the route."""
    if route.permission == NO_KEY:
        return True
    permissions = ROLES[role]
    if route.permission is not None and route.permission not in permissions:
        return False
    if route.right is None:
        return True
    if route.right == "key":
        return relation == "owner" or role == "admin"
    if route.right == "mine":
        return relation == "owner"
    given = RELATIONS[role if role in ("admin", "auditor", "monitor") else relation]
    needed = NEEDS_ROLE.get(route.right)
    return route.right in given and (needed is None or needed in permissions)
