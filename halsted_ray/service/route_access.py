"""What each route of the API asks of its caller, read from the dependencies that enforce it, and the page that says so.

``docs/reference/rights.md`` is this page. A route that asks for no key is refused here unless ``OPEN`` says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fastapi.routing import APIRoute

from halsted_ray.service import rights
from halsted_ray.service.case_access import OWN, asked_of, takes_links
from halsted_ray.service.routes import ROUTERS
from halsted_ray.service.users import PERMISSIONS

OPEN = {
    "GET /": "the page, which holds nothing of a tenant",
    "GET /assets/{name}": "the page",
    "GET /docs": "what the API is",
    "GET /healthz": "whether the service answers",
    "GET /readyz": "whether the service answers",
    "GET /session": "says who is signed in, by the cookie",
    "POST /session": "signs in: checks the key of its body",
    "DELETE /session": "signs out: ends the session of the cookie",
    "POST /session/setup": "checks the one-time link of its body",
    "POST /session/link": "checks the read-only link of its body",
    "GET /session/sign-on": "begins a sign-in at the identity provider",
    "GET /session/signed-on": "checks the token of the identity provider",
    "PUT /v1/uploads/{upload_id}/parts/{number}/signed": "checks the signature in the address",
}
"""Route that asks for no key → why. All others ask for a key, a token or a session."""


@dataclass(frozen=True)
class RouteAccess:
    """What one route asks. ``route``: method and path. ``permissions``: what the role must have. ``rights``: what the
    caller must have of the case (``rights.RIGHTS``) or own (``case_access.OWN``); where there are several, the
    body, or the kind of the job, says which. Both are empty for a route of ``OPEN``. ``takes_links``: whether it also
    takes whoever looks at a case through a link."""

    route: str
    permissions: tuple[str, ...]
    rights: tuple[str, ...]
    takes_links: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it asks for no key."""
        return self.route in OPEN

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that may ask."""
        return tuple(role for role, has in PERMISSIONS.items() if has.issuperset(self.permissions))

    @property
    def relations(self) -> tuple[str, ...]:
        """The relations to the case that give the right; empty for a route that is about no case."""
        return tuple(
            one
            for one, has in rights.RELATIONS.items()
            if has.intersection(self.rights) and (one != "link" or self.takes_links)
        )


def access_of_routes() -> list[RouteAccess]:
    """What every route of the API asks, in the order of the application.

    Raises ValueError for a route that asks for no key and is not in ``OPEN``, and for one in ``OPEN`` that does.
    """
    found = []
    for route in (route for router in ROUTERS for route in router.routes):
        assert isinstance(route, APIRoute), f"{route} is none of FastAPI's, so nothing says what it asks"
        permissions, asked = asked_of(route.dependant)
        for method in sorted(route.methods or ()):
            name = f"{method} {route.path}"
            if bool(permissions) == (name in OPEN):
                raise ValueError(
                    f"{name} {'asks for a key and stands' if permissions else 'asks for no key and does not stand'} in "
                    "route_access.OPEN; give the route a caller of deps.py, or OPEN the reason"
                )
            own = (*rights.RIGHTS, *OWN)
            needed = sorted(permission for permission in permissions if permission is not None)
            rights_asked = tuple(sorted(asked, key=own.index))
            found.append(RouteAccess(name, tuple(needed), rights_asked, takes_links(route.dependant)))
    return found


def rights_page() -> Iterator[str]:
    """The lines of the page of the reference, in Markdown."""
    yield "# Rights\n"
    yield "What somebody may do with a case needs both: the relation to the case, and the role in the tenant.\n"
    yield "| relation | who | rights |\n|---|---|---|"
    for relation, given in rights.RELATIONS.items():
        shown = ", ".join(right for right in rights.RIGHTS if right in given) or "none"
        yield f"| {relation} | {rights.ABOUT_RELATIONS[relation]} | {shown} |"
    yield "\n| right | allows to | the role needs the permission |\n|---|---|---|"
    for right, about in rights.RIGHTS.items():
        yield f"| {right} | {about} | {rights.PERMISSION_OF[right] or 'none'} |"
    withdrawn = ", ".join(right for right in rights.RIGHTS if right in rights.WITHDRAWN_FOR)
    yield f"\nOnce the consent is withdrawn, only administrators have: {withdrawn}.\n"
    yield "| role | permissions |\n|---|---|"
    for role, permissions in PERMISSIONS.items():
        yield f"| {role} | {', '.join(sorted(permissions))} |"
    yield "\n## Routes\n"
    yield "Who may use a route needs one of the roles and, where the route is about a case, one of the relations.\n"
    yield "| route | roles | right | relations |\n|---|---|---|---|"
    for one in access_of_routes():
        if one.is_open:
            yield f"| `{one.route}` | no key: {OPEN[one.route]} | | |"
        else:
            yield f"| `{one.route}` | {_roles(one)} | {' or '.join(one.rights)} | {_relations(one)} |"


def _roles(one: RouteAccess) -> str:
    return "every role" if len(one.roles) == len(PERMISSIONS) else ", ".join(one.roles)


def _relations(one: RouteAccess) -> str:
    own = [OWN[right] for right in one.rights if right in OWN]
    return ", ".join([*one.relations, *own])
