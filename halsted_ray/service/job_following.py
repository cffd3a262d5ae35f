"""Following jobs: however many clients follow a job, one task per job looks at the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool

from halsted_ray.service.jobs import ENDS, Jobs
from halsted_ray.service.tables import Job

EVERY_S = 0.5
"""How often a job that somebody follows is looked at."""


@dataclass
class _Followed:
    """One job, as it was last seen. ``seen`` is set at the next look, and then replaced."""

    followers: int = 0
    job: Job | None = None
    error: Exception | None = None
    seen: asyncio.Event = field(default_factory=asyncio.Event)
    looking: asyncio.Task[None] | None = None


class JobFollowing:
    """The followed jobs of one replica. For one event loop."""

    def __init__(self, jobs: Jobs, every_s: float = EVERY_S) -> None:
        self.jobs, self.every_s = jobs, every_s
        self._followed: dict[tuple[str, str], _Followed] = {}

    async def states(self, tenant_id: str, job_id: str) -> AsyncGenerator[Job, None]:
        """The job, again and again until it has ended. Raises NotFound where it was removed."""
        name = (tenant_id, job_id)
        followed = self._followed.setdefault(name, _Followed())
        followed.followers += 1
        if followed.looking is None:
            followed.looking = asyncio.create_task(self._look(name, followed))
        try:
            while True:
                seen = followed.seen
                if followed.error is not None:
                    raise followed.error
                if followed.job is not None:
                    yield followed.job
                    if followed.job.state in ENDS:
                        return
                await seen.wait()
        finally:
            followed.followers -= 1
            if not followed.followers:
                followed.looking.cancel()
                if self._followed.get(name) is followed:
                    del self._followed[name]

    async def _look(self, name: tuple[str, str], followed: _Followed) -> None:
        while followed.error is None and (followed.job is None or followed.job.state not in ENDS):
            try:
                followed.job = await run_in_threadpool(self.jobs.get, *name)
            except Exception as error:  # each follower raises it
                followed.error = error
            seen, followed.seen = followed.seen, asyncio.Event()
            seen.set()
            await asyncio.sleep(self.every_s)
