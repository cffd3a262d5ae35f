"""Every route of the API with every role and every relation to the case: who may, what is shown, and what the audit log
says of it. The expectations stand in ``route_table.py``."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from maps import WHOLE
from route_table import ADDED, NO_KEY, OTHER_RIGHTS, RELATIONS, ROLES, ROUTES, Route, may
from serving import client_of, new_key, open_service, shared_model, shared_video, upload
from sqlalchemy import select
from starlette.testclient import TestClient
from sutured import write_suturing

from halsted_ray.service import sample_case, users
from halsted_ray.service.annotation_tables import Comment
from halsted_ray.service.api import create_api
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.database import now_s
from halsted_ray.service.route_access import access_of_routes, rights_page
from halsted_ray.service.summaries import note_map
from halsted_ray.service.tables import AuditEntry, CaseLink, Job, Share, StoredVideo, Upload, User
from halsted_ray.storage.vectors import VectorStore

SHARED_AS = ("surgeon", "trainee", "reviewer", "annotator")
HELD = ("owner", *SHARED_AS, "anyone", "none", "expired")
WALKED = [(role, relation) for role, relation in itertools.product(ROLES, HELD)]
LOOKS = {route.look for route in ROUTES.values() if route.look}
JPEG = b"\xff\xd8\xff"
SPEAKS_OF_TAGS = {"GET /v1/models", "GET /docs"}
"""These name tags of the taxonomy, of no case."""


@dataclass
class Site:
    """A site with one case that is mapped. ``chunk``: bytes of the video. ``app``: its API, for all clients."""

    service: ServiceComponents
    video_id: str
    job_id: str
    chunk: bytes
    app: Any

    @contextmanager
    def client(self, role: str, relation: str) -> Iterator[tuple[TestClient, dict[str, str]]]:
        """A client with this role in the tenant and this relation to the case, and what stands for the names in
        braces. For ``owner`` the case, the upload and the key are their own, else somebody else's."""
        user = f"{role}-{relation}"
        key = new_key(self.service, user=user, role=role)
        with self.service.database.writing() as session:
            user_id = session.scalar(select(User.user_id).where(User.name == user))
            other_id = session.scalar(select(User.user_id).where(User.name == "other"))
            owner_id = user_id if relation == "owner" else None if relation == "anyone" else other_id
            session.get_one(StoredVideo, ("north", self.video_id)).owner_id = owner_id
            session.get_one(Job, self.job_id).user_id = other_id
            if relation in (*SHARED_AS, "expired"):
                until_s = now_s() + (-1 if relation == "expired" else 3600)
                kind = "trainee" if relation == "expired" else relation
                self.add_share(session, f"5a{secrets.token_hex(4)}", user_id, kind, until_s)
        theirs = (
            new_key(self.service, user=user, role=role) if relation == "owner" else new_key(self.service, user="other")
        )
        ids = {
            "video_id": self.video_id,
            "job_id": self.job_id,
            "case_id": self.service.videos.get("north", self.video_id).case_id,
            "number": "1",
            "study_uid": "1.2.3",
            "share_id": "ab",
            "link_id": "ab",
            "comment_id": "ab",
            "key_id": users.key_id_of(theirs),
            "user": user,
            "user_id": user_id,
            "began": owner_id or other_id,
            "other": other_id,
        }
        with TestClient(self.app, headers={"x-api-key": key}, follow_redirects=False) as client:
            yield client, ids

    def renew(self, name: str, route: Route, ids: dict[str, str]) -> None:
        """Puts in place what the requests before may have ended: the upload, the link, the share of somebody else,
        and a comment of the caller."""
        if "{link_id}" in name:
            with self.service.database.writing() as session:
                session.merge(link_of(self.video_id, ids["other"]))
        if "{comment_id}" in name:
            with self.service.database.writing() as session:
                whose = {"tenant_id": "north", "video_id": self.video_id, "author_id": ids["user_id"]}
                session.merge(Comment(comment_id="ab", at_s=1.0, text="look here", created_s=now_s(), **whose))
        if not ("{upload_id}" in f"{name} {route.body}" or "{share_id}" in name):
            return
        ids["upload_id"] = secrets.token_hex(8)
        with self.service.database.writing() as session:
            self.add_share(session, "ab", ids["other"], "reviewer", now_s() + 3600)
            session.add(
                Upload(
                    upload_id=ids["upload_id"],
                    tenant_id="north",
                    user_id=ids["began"],
                    state="open",
                    place=f"videos/{ids['upload_id']}/video.mp4",
                    store_ref="",
                    created_s=now_s(),
                )
            )

    def add_share(self, session, share_id: str, user_id: str, relation: str, expires_s: float) -> None:
        """A share of the case; an earlier one with this id goes."""
        if (found := session.get(Share, share_id)) is not None:
            session.delete(found)
            session.flush()
        whose = {"tenant_id": "north", "video_id": self.video_id, "granted_by": user_id}
        times = {"created_s": now_s(), "expires_s": expires_s}
        session.add(Share(share_id=share_id, user_id=user_id, relation=relation, **whose, **times))

    def entries(self, after: int) -> list[AuditEntry]:
        """The entries of the audit log behind ``after``."""
        with self.service.database.reading() as session:
            return list(session.scalars(select(AuditEntry).where(AuditEntry.seq > after).order_by(AuditEntry.seq)))

    def last(self) -> int:
        """The number of the last entry."""
        with self.service.database.reading() as session:
            return session.scalar(select(AuditEntry.seq).order_by(AuditEntry.seq.desc()).limit(1))

    def shows_a_look(self, answer) -> bool:
        """Whether the answer holds bytes of the video, a clip or a frame of it, or rows of its map, or what
        was computed of them."""
        return (
            answer.content[4:8] == b"ftyp"
            or self.chunk in answer.content
            or answer.content.startswith(JPEG)
            or re.search(rb'Suturing|Dissection|Bladder|Needle Handling|"kappa"', answer.content) is not None
        )


@pytest.fixture(scope="module")
def short_sample() -> Iterator[None]:
    """The sample case is short: every user who may ask for it here gets one of their own."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sample_case, "LENGTH_S", 2.0)
        yield


@pytest.fixture(scope="module")
def site(tmp_path_factory, short_sample) -> Site:
    folder = tmp_path_factory.mktemp("site")
    service = open_service(folder, shared_model(), with_clips=True, requests_per_minute=10**6, poll_s=0.0)
    with client_of(service, new_key(service, user="other")) as other:
        video_id = upload(other, shared_video())["video_id"]
        write_suturing(service.videos.maps_location("north", video_id))
        vectors = VectorStore(f"{service.videos.maps_location('north', video_id)}/embeddings", "ab", "reference")
        vectors.put(WHOLE, 0.0, 120.0, {("fine", 2.5 * n, 2.5 * n + 2.5): np.eye(48)[n] for n in range(48)})
        assert other.post(f"/v1/videos/{video_id}/annotations", json=ADDED).status_code == 200
        note_map(service.videos, "north", video_id, "mapped", None, service.model_source().taxonomy)
        job_id = other.post(f"/v1/videos/{video_id}/maps", json={}).json()["job_id"]
    job = service.jobs.claim("worker")
    service.jobs.update(job.job_id, "worker", done_s=12.0, rate=10.0)
    service.jobs.finish(job_id, "worker", "done", "mapped")
    with open(service.videos.location(service.videos.get("north", video_id)), "rb") as file:
        chunk = file.read()[2000:2200]
    with service.database.writing() as session:
        session.get_one(Job, job_id).total_s = 12.0
        session.get_one(StoredVideo, ("north", video_id)).legal_hold = True  # so that the walk deletes nothing
    return Site(service, video_id, job_id, chunk, create_api(service))


def link_of(video_id: str, user_id: str) -> CaseLink:
    """The link ``ab`` to the case, which runs."""
    return CaseLink(
        link_id="ab",
        token_sha256="0" * 64,
        tenant_id="north",
        video_id=video_id,
        shows=["video", "timeline"],
        created_by=user_id,
        created_s=now_s(),
        expires_s=now_s() + 3600,
        revoked_s=None,
    )


def filled(value: Any, ids: dict[str, str]) -> Any:
    """``value`` with the names in braces replaced."""
    if isinstance(value, str):
        return re.sub(r"{(\w+)}", lambda found: ids.get(found[1], found[0]), value)
    if isinstance(value, list):
        return [filled(inner, ids) for inner in value]
    if isinstance(value, dict):
        return {name: filled(inner, ids) for name, inner in value.items()}
    return value


def ask(client: TestClient, name: str, route: Route, ids: dict[str, str], **more: str):
    """The answer to the request that the table describes."""
    method, path = name.split(" ", 1)
    body = filled(route.body, ids)
    content = {"content": body} if isinstance(body, bytes) else {} if body is None else {"json": body}
    url = filled(path, ids) + (f"?{filled(route.query, ids)}" if route.query else "")
    return client.request(method, url, headers={**route.headers, **more}, **content)


def is_refused(answer) -> bool:
    return answer.status_code in (401, 403, 404)


def is_empty(answer) -> bool:
    found = answer.json()
    return found in ([], {"statusCode": 200, "body": {"available": False}}) or (
        isinstance(found, dict) and found.get("cases") in ([], 0)
    )


def test_every_route_is_in_the_table_and_the_code_asks_what_the_table_says(site):
    """A new route fails here until somebody has written down who may use it and whether it shows picture or map."""
    described = {
        f"{method.upper()} {path}" for path, methods in site.app.openapi()["paths"].items() for method in methods
    }
    found = {one.route: one for one in access_of_routes()}
    assert described <= set(found) and set(found) == set(ROUTES), set(ROUTES) ^ (set(found) | described)
    for name, route in ROUTES.items():
        one = found[name]
        if route.permission == NO_KEY:
            assert one.is_open and not one.permissions and not one.rights, name
            continue
        roles = {role for role, has in ROLES.items() if route.permission is None or route.permission in has}
        needed = {route.right} - {None} | OTHER_RIGHTS.get(name, set())
        if one.permissions and route.permission is None:  # what the right itself asks of the role
            roles = {role for role in roles if set(one.permissions) <= ROLES[role]}
        assert not one.is_open and set(one.roles) == roles and set(one.rights) == needed, name


def test_the_page_of_rights_says_for_each_route_which_roles_and_relations_may():
    rows = [line.split(" | ") for line in rights_page() if line.startswith("| `")]
    shown = {row[0].strip("| `"): [cell.strip(" |") for cell in row[1:]] for row in rows}
    assert set(shown) == set(ROUTES)
    names = {"admin": "administrator"}
    for name, route in ROUTES.items():
        if route.permission == NO_KEY:
            assert shown[name][0].startswith("no key: "), name
            continue
        roles = [role for role, has in ROLES.items() if route.permission is None or route.permission in has]
        assert shown[name][0] == ("every role" if len(roles) == len(ROLES) else ", ".join(roles)), name
        relations = set(shown[name][2].split(", ")) if len(shown[name]) > 2 else {""}
        wanted = {route.right} | OTHER_RIGHTS.get(name, set())
        if route.right == "mine":
            assert relations == {"whose cases they are"}, name
        elif route.right in ("upload", "key"):
            assert len(relations) == 2 and "and administrators" in relations, name
        elif route.right:
            expected = {names.get(one, one) for one, has in RELATIONS.items() if has & wanted}
            expected |= {"link"} if route.takes_links else set()
            assert relations == expected, (name, relations ^ expected)


@pytest.mark.parametrize("role, relation", WALKED, ids=lambda one: one)
def test_every_route_with_every_role_and_relation(site, role, relation):
    """Who may gets an answer, who may not a refusal. Each look at the picture or the map is one entry with who, what,
    which span, from where and by which share; each refused request is one entry; and whatever the table calls no look
    shows neither picture nor map."""
    with site.client(role, relation) as (client, ids):
        for name, route in ROUTES.items():
            site.renew(name, route, ids)
            before = site.last()
            answer = ask(client, name, route, {**ids, "seq": str(before)})
            check(site, role, relation, name, answer, site.entries(before))


def check(site: Site, role: str, relation: str, name: str, answer: Any, entries: list[AuditEntry]) -> None:
    """What the answer to one request is, and what the audit log says of it."""
    route = ROUTES[name]
    context = (role, relation, name, answer.status_code, answer.text[:200], [one.action for one in entries])
    assert answer.status_code < 500 or name == "GET /readyz", context
    if name not in SPEAKS_OF_TAGS and route.look is None:
        assert not site.shows_a_look(answer), context
    if route.permission == NO_KEY:
        return
    if not may(role, relation, route):
        assert not site.shows_a_look(answer), context
        if route.is_filter and route.permission in ROLES[role]:
            assert answer.status_code == 200 and is_empty(answer), context
        else:
            assert is_refused(answer) and [one.action for one in entries] == ["access.refused"], context
        return
    assert not is_refused(answer) and not (route.is_filter and is_empty(answer)), context
    looks = [one for one in entries if one.action in LOOKS]
    if route.look is None:
        assert looks == [], context
        return
    assert answer.status_code in (200, 201, 206), context
    assert site.shows_a_look(answer) or name.startswith("HEAD"), context
    (entry,) = looks
    span = entry.detail.get("bytes") or entry.detail.get("seconds")
    assert (entry.action, entry.subject) == (route.look, site.video_id), context
    assert entry.actor.split("/")[0] == f"{role}-{relation}" and entry.detail["address"] == "testclient", context
    assert len(span) == 2 and span[0] < span[1], (*context, entry.detail)
    assert ("share" in entry.detail) == (relation in SHARED_AS and role != "admin"), (*context, entry.detail)


def test_the_auditor_sees_who_looked_and_no_picture_on_every_route(site):
    """Whatever the auditor is to the case, also with the owner's entries before them."""
    with site.client("surgeon", "owner") as (owner, ids):
        ask(owner, "GET /v1/videos/{video_id}/content", ROUTES["GET /v1/videos/{video_id}/content"], ids)
    for relation in HELD:
        with site.client("auditor", relation) as (auditor, ids):
            for name, route in ROUTES.items():
                site.renew(name, route, ids)
                answer = ask(auditor, name, route, {**ids, "seq": "0"})
                assert not site.shows_a_look(answer) or name in SPEAKS_OF_TAGS, (relation, name)
            looks = auditor.get(f"/v1/videos/{site.video_id}/looks", params={"limit": 1000}).json()
        assert ("video.read", "surgeon-owner") in {(one["action"], one["actor"].split("/")[0]) for one in looks}
