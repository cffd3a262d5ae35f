"""The dependencies through which a route gets a case, a job or an upload: no route reads an id of these itself.

They ask ``Cases`` whether the caller may, and write every refusal into the audit log. (No ``annotations`` import here:
the annotations of these functions name what their arguments hold.)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.dependencies.models import Dependant

from halsted_ray.service.auth import PERMISSION, TAKES_LINKS, record_refusal, require_permission
from halsted_ray.service.cases import Case
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.errors import Forbidden, NotFound
from halsted_ray.service.library import LibraryCase
from halsted_ray.service.rights import PERMISSION_OF
from halsted_ray.service.tables import Job
from halsted_ray.service.users import Caller

Id = Annotated[str, Path(pattern=r"^[0-9a-f]{1,64}$")]
"""An id of this service in a path."""
RIGHT: dict[Callable[..., object], str] = {}
"""Dependency → what it asks for: a right to a case (``rights.RIGHTS``), or one of ``OWN``."""
OWN = {
    "upload": "whoever began the upload, and administrators",
    "key": "whose key it is, and administrators",
    "mine": "whose cases they are",
}
"""What a route asks for besides a right to a case → who has it."""


def asked_of(dependant: Dependant) -> tuple[frozenset[str | None], frozenset[str]]:
    """The permissions that a route asks for (None among them: any valid caller), and what ``RIGHT`` says it asks for
    besides."""
    calls = set(_calls(dependant))
    return (
        frozenset(PERMISSION[call] for call in calls if call in PERMISSION),
        frozenset(RIGHT[call] for call in calls if call in RIGHT),
    )


def takes_links(dependant: Dependant) -> bool:
    """Whether a route also takes whoever looks at a case through a link."""
    return not TAKES_LINKS.isdisjoint(_calls(dependant))


def _calls(dependant: Dependant) -> Iterator[Callable[..., object]]:
    for inner in dependant.dependencies:
        if inner.call is not None:
            yield inner.call
        yield from _calls(inner)


@cache
def checks(right: str) -> Callable[[], None]:
    """The dependency that declares what a route checks itself, since it learns from its body which case it is about.
    ``refusals_recorded`` lets a route check nothing else than what it declares."""

    def declared() -> None:
        return None

    RIGHT[declared] = right
    return declared


@contextmanager
def refusals_recorded(request: Request, caller: Caller, asked: str, subject: str | None = None) -> Iterator[None]:
    """Writes into the audit log that the block refused the caller something. ``asked``: what the route declares
    (``checks``). ``subject``: the id that was asked for, where it does not stand in the path."""
    permissions, rights = asked_of(request.scope["route"].dependant)
    assert asked in permissions | rights, f"{request.scope['route'].path} checks {asked!r} and does not declare it"
    try:
        yield
    except (NotFound, Forbidden):
        components: ServiceComponents = request.app.state.components
        record_refusal(components, request, caller, asked, subject)
        raise


def case_with(right: str, takes_links: bool = False) -> Callable[..., Case]:
    """The dependency that gives the case of ``video_id``, to which the caller must have ``right``. ``takes_links``:
    also through a link; the route must then show no more than the link does (``Case.link``)."""
    permitted = require_permission(PERMISSION_OF[right], takes_links)

    def case(request: Request, caller: Annotated[Caller, Depends(permitted)], video_id: Id) -> Case:
        components: ServiceComponents = request.app.state.components
        with refusals_recorded(request, caller, right):
            return components.cases.require(caller, video_id, right)

    RIGHT[case] = right
    return case


def operation_with(right: str) -> Callable[..., LibraryCase]:
    """The dependency that gives the case of ``case_id`` with those of its files that the caller may see, to each of
    which the caller must have ``right``."""
    permitted = require_permission(PERMISSION_OF[right])

    def operation(request: Request, caller: Annotated[Caller, Depends(permitted)], case_id: Id) -> LibraryCase:
        components: ServiceComponents = request.app.state.components
        with refusals_recorded(request, caller, right):
            return components.library.require(caller, case_id, right)

    RIGHT[operation] = right
    return operation


def operation_with_any(right: str) -> Callable[..., LibraryCase]:
    """The dependency that gives the case of ``case_id``, where the caller has ``right`` to one of its files or more;
    the route must show nothing of the others."""
    permitted = require_permission(PERMISSION_OF[right])

    def operation(request: Request, caller: Annotated[Caller, Depends(permitted)], case_id: Id) -> LibraryCase:
        components: ServiceComponents = request.app.state.components
        with refusals_recorded(request, caller, right):
            return components.library.require_any(caller, case_id, right)

    RIGHT[operation] = right
    return operation


def job_with(right: str) -> Callable[..., Job]:
    """The dependency that gives the job of ``job_id``, to whose case the caller must have ``right``."""
    permitted = require_permission(PERMISSION_OF[right])

    def job(request: Request, caller: Annotated[Caller, Depends(permitted)], job_id: Id) -> Job:
        components: ServiceComponents = request.app.state.components
        with refusals_recorded(request, caller, right):
            return components.cases.require_job(caller, job_id, right)

    RIGHT[job] = right
    return job


def own_upload(
    request: Request, caller: Annotated[Caller, Depends(require_permission("write"))], upload_id: Id
) -> None:
    """The dependency that refuses an upload which somebody else began."""
    components: ServiceComponents = request.app.state.components
    with refusals_recorded(request, caller, "upload"):
        components.cases.require_upload(caller, upload_id)


RIGHT[own_upload] = "upload"


def own_cases() -> None:
    """The dependency of a route that shows the caller's own cases, and none where they have none."""


RIGHT[own_cases] = "mine"
