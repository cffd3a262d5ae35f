"""Places in turns: event streams, parts and clips of one tenant leave room for the others."""

from __future__ import annotations

import asyncio
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from fastapi import HTTPException
from ray.serve.autoscaling_policy import replica_queue_length_autoscaling_policy
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import ServeDeploySchema
from serving import client_of, new_key, open_service, shared_model, shared_video, upload
from starlette.testclient import TestClient

from halsted_ray.service import api, job_following, middleware
from halsted_ray.service.api import create_api
from halsted_ray.service.deployments import DEPLOYMENTS, mappers_needed
from halsted_ray.service.job_following import JobFollowing
from halsted_ray.service.places import FairPlaces
from halsted_ray.service.rate_limit import RateLimiter
from halsted_ray.service.tables import Job


def test_places_go_to_owners_in_turns():
    """A tenant with twenty requests delays another tenant's request by one request."""

    async def served() -> list[str]:
        places, order = FairPlaces("clips", total=2, each=2, waiting=100), []

        async def one(owner: str) -> None:
            async with places.place(owner):
                order.append(owner)
                await asyncio.sleep(0.01)

        busy = [asyncio.create_task(one("north")) for _ in range(20)]
        await asyncio.sleep(0)
        await asyncio.gather(*busy, one("south"), one("west"))
        assert places.free == 2
        return order

    order = asyncio.run(served())
    assert sorted(order[2:5]) == ["north", "south", "west"] and len(order) == 22


def test_one_owner_never_holds_more_than_its_share_and_others_find_a_place_at_once():
    async def check() -> None:
        places = FairPlaces("clips", total=3, each=2, waiting=1)
        async with places.place("north"), places.place("north"):
            waiting = asyncio.create_task(places.place("north").__aenter__())
            await asyncio.sleep(0)
            with pytest.raises(HTTPException) as refused:
                async with places.place("north"):
                    pass
            assert refused.value.status_code == 429 and refused.value.headers["Retry-After"]
            async with asyncio.timeout(1), places.place("south"):
                pass
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        assert places.free == 3

    asyncio.run(check())


def test_a_client_that_leaves_the_queue_takes_no_place_with_it():
    async def check() -> None:
        places = FairPlaces("clips", total=1, each=1, waiting=9)

        async def one() -> None:
            async with places.place("north"):
                await asyncio.sleep(0)

        async with places.place("south"):
            left = [asyncio.create_task(one()) for _ in range(5)]
            await asyncio.sleep(0)
            for task in left[:4]:
                task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        assert places.free == 1 and not places._queues

    asyncio.run(check())


@pytest.fixture
def running(tmp_path):
    """A site with a running job: (service, job)."""
    service = open_service(tmp_path, shared_model())
    with client_of(service, new_key(service)) as client:
        video_id = upload(client, shared_video())["video_id"]
        job_id = client.post(f"/v1/videos/{video_id}/maps", json={}).json()["job_id"]
    assert service.jobs.claim("a worker").job_id == job_id
    return service, job_id


def test_two_hundred_followers_cost_one_look_at_the_database_each_time(running):
    service, job_id = running
    looks = []

    class Counted:
        def get(self, *name: str) -> Job:
            looks.append(name)
            return service.jobs.get(*name)

    async def follow() -> None:
        following = JobFollowing(Counted(), every_s=0.05)

        async def one() -> list[str]:
            return [job.state async for job in following.states("north", job_id)]

        followers = [asyncio.create_task(one()) for _ in range(220)]
        await asyncio.sleep(0.5)
        service.jobs.finish(job_id, "a worker", "done")
        states = await asyncio.wait_for(asyncio.gather(*followers), 5)
        assert all(found[0] == "running" and found[-1] == "done" for found in states)
        assert not following._followed

    asyncio.run(follow())
    assert len(looks) < 30


def test_followers_of_a_removed_job_are_told(running):
    service, _ = running

    async def follow() -> None:
        async for _ in JobFollowing(service.jobs).states("north", "abcd"):
            pass

    with pytest.raises(Exception, match="no job 'abcd'"):
        asyncio.run(follow())


def ask_stream(app, job_id: str, key: str):
    """One request for the events of a job, by ASGI: (the status, the task that goes on)."""

    async def opened():
        status, went = asyncio.get_running_loop().create_future(), asyncio.Event()

        async def send(message):
            if message["type"] == "http.response.start" and not status.done():
                status.set_result((message["status"], dict(message["headers"])))

        first = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive():
            if first:
                return first.pop()
            await went.wait()
            return {"type": "http.disconnect"}

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": f"/v1/jobs/{job_id}/events",
            "raw_path": b"",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"localhost"), (b"x-api-key", key.encode())],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        task = asyncio.create_task(app(scope, receive, send))
        return await asyncio.wait_for(status, 10), went, task

    return opened()


def test_a_key_follows_a_limited_number_of_jobs_and_gives_the_places_back(running, monkeypatch):
    service, job_id = running
    monkeypatch.setattr(job_following, "EVERY_S", 0.05)
    key, other = new_key(service), new_key(service, "north", "root", "admin")
    app = create_api(service)

    async def check() -> None:
        opened = [await ask_stream(app, job_id, key) for _ in range(api.STREAMS_OF_KEY + 1)]
        assert [status for (status, _), _, _ in opened] == [200] * api.STREAMS_OF_KEY + [429]
        assert b"retry-after" in opened[-1][0][1]
        (status, _), went, task = await ask_stream(app, job_id, other)
        assert status == 200, "another key of the tenant follows it"
        for _, left, _ in [*opened, (None, went, None)]:
            left.set()
        await asyncio.wait_for(asyncio.gather(task, *(task for *_, task in opened)), 10)
        assert app.state.streams_of_key.free == api.STREAMS and app.state.streams_of_tenant.free == api.STREAMS

    asyncio.run(check())


def begun(service, key: str) -> str:
    """The id of an open upload."""
    with client_of(service, key) as client:
        return client.post("/v1/uploads", json={}).json()["upload_id"]


def slow_body(app, headers: list[tuple[bytes, bytes]], path: str, every_s: float, chunk: bytes, method: str = "PUT"):
    """The status of a request whose body comes in chunks, one after ``every_s`` seconds, for ever."""

    async def ask() -> int:
        status = []

        async def send(message):
            if message["type"] == "http.response.start":
                status.append(message["status"])

        async def receive():
            await asyncio.sleep(every_s)
            return {"type": "http.request", "body": chunk, "more_body": True}

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": b"",
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        await asyncio.wait_for(app(scope, receive, send), 20)
        return status[0]

    return ask()


@pytest.mark.parametrize(("every_s", "chunk"), [(0.05, b"x" * 50), (60.0, b"x")])
def test_without_a_front_too_a_body_must_keep_a_least_rate(running, monkeypatch, every_s, chunk):
    service, _ = running
    monkeypatch.setattr(middleware, "GRACE_S", 0.5)
    monkeypatch.setattr(middleware, "SILENCE_S", 1.0)
    key = new_key(service)
    headers = [(b"host", b"localhost"), (b"x-api-key", key.encode())]
    path = f"/v1/uploads/{begun(service, key)}/parts/1"
    assert asyncio.run(slow_body(create_api(service), headers, path, every_s, chunk)) == 408
    sign_in = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    assert asyncio.run(slow_body(create_api(service), sign_in, "/session", every_s, chunk, "POST")) == 408


def test_slow_parts_keep_nobody_from_writing_or_playing(running):
    """Eight bodies that wait: other parts are written and videos are read meanwhile, in the same replica."""
    service, _ = running
    app, key, other = create_api(service), new_key(service), new_key(service, "south", "eve")
    upload_id = begun(service, key)

    async def check() -> None:
        headers = [(b"host", b"localhost"), (b"x-api-key", key.encode())]
        held = [
            asyncio.create_task(slow_body(app, headers, f"/v1/uploads/{upload_id}/parts/{n}", 5.0, b"x"))
            for n in range(1, 9)
        ]
        async with asyncio.timeout(30):
            while app.state.bodies.free > api.BODIES - 8:  # until all eight are on their way
                await asyncio.sleep(0.05)
        took = await asyncio.wait_for(asyncio.to_thread(play_and_send), 8)  # before the first is refused as too slow
        assert took == 206
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        assert app.state.bodies.free == api.BODIES

    def play_and_send() -> int:
        with TestClient(app, headers={"x-api-key": other}) as client:
            video_id = upload(client, shared_video())["video_id"]
            return client.get(f"/v1/videos/{video_id}/content", headers={"range": "bytes=0-99"}).status_code

    asyncio.run(check())


def context(jobs: dict[str, float], current: int, least: int = 2, most: int = 4) -> SimpleNamespace:
    return SimpleNamespace(
        aggregated_metrics={"open_jobs": jobs} if jobs else {},
        current_num_replicas=current,
        capacity_adjusted_min_replicas=least,
        capacity_adjusted_max_replicas=most,
    )


def test_mappers_grow_with_the_queue_and_shrink_when_it_is_empty():
    assert mappers_needed(context({"a": 3.0, "b": 2.6}, 2))[0] == 3
    assert mappers_needed(context({"a": 9.0}, 2))[0] == 4, "the most"
    assert mappers_needed(context({"a": 1.0}, 4))[0] == 4, "the one that works could be taken away"
    assert mappers_needed(context({"a": 0.0}, 4))[0] == 2
    assert mappers_needed(context({}, 2))[0] == 2, "nothing reported yet"


def test_every_deployment_scales_by_its_queue_and_stays_below_its_limit():
    for name, options in DEPLOYMENTS.items():
        scaling = options["autoscaling_config"]
        assert "num_replicas" not in options and scaling["min_replicas"] < scaling["max_replicas"], name
        if "max_ongoing_requests" in options:
            assert scaling["target_ongoing_requests"] <= options["max_ongoing_requests"]


@pytest.mark.parametrize(
    ("name", "requests", "running", "expected"),
    [
        ("Gateway", 100, 1, 1),
        ("Gateway", 290, 1, 2),
        ("Gateway", 900, 2, 3),
        ("Gateway", 10, 3, 1),
        ("Tagger", 30, 1, 1),
        ("Tagger", 64, 1, 2),
        ("Tagger", 5, 2, 1),
    ],
)
def test_ray_serve_wants_as_many_replicas_as_the_queue_needs(name, requests, running, expected):
    """``requests``: those that wait or are worked on, of all replicas. The rule is Ray Serve's own."""
    config = AutoscalingConfig(**DEPLOYMENTS[name]["autoscaling_config"])
    seen = SimpleNamespace(
        current_num_replicas=running,
        target_num_replicas=running,
        total_num_requests=float(requests),
        config=config,
        policy_state={},
    )
    wanted, _ = replica_queue_length_autoscaling_policy(seen)
    assert min(max(math.ceil(wanted), config.min_replicas), config.max_replicas) == expected


def test_a_gpu_is_one_line_of_the_configuration():
    text = (Path(__file__).parent.parent / "serve" / "config.yaml").read_text()
    line = next(line for line in text.splitlines() if "# num_gpus: 1" in line)
    changed = yaml.safe_load(text.replace(line, line.replace("# num_gpus: 1", "num_gpus: 1", 1)))
    ServeDeploySchema.model_validate(changed)  # what `serve deploy` takes
    options = {each["name"]: each for each in changed["applications"][0]["deployments"]}
    assert options["Tagger"]["ray_actor_options"] == {"num_cpus": 0.5, "num_gpus": 1}


def test_a_keys_limit_is_shared_anew_when_replicas_come():
    limiter = RateLimiter(60)
    limiter.share_among(2)
    for _ in range(30):
        limiter.take("key")
    with pytest.raises(HTTPException):
        limiter.take("key")


def test_replicas_count_each_other(running):
    service, _ = running
    assert service.metrics.replicas() == 1
    service.metrics.save()
    other = type(service.metrics)(service.database)
    other.save()
    assert service.metrics.replicas() == other.replicas() == 2


def test_polls_of_the_sdk_that_find_no_place_are_answered_at_once(running, monkeypatch):
    """A hundred polls that are held open would take every place that the front has for requests of this kind."""
    service, job_id = running
    service.settings = replace(service.settings, poll_s=2.0)
    monkeypatch.setattr(api, "POLLS_OF_TENANT", 1)
    app, key = create_api(service), new_key(service)
    asked = {"path_to_s3_uri": f"halsted://{job_id}/clips.json"}

    def poll(_number: int) -> float:
        began_s = time.perf_counter()
        with TestClient(app, headers={"x-api-key": key}) as client:
            answer = client.post("/data/list-objects", json=asked)
        assert answer.json() == {"statusCode": 200, "body": {"available": False}}
        return time.perf_counter() - began_s

    with ThreadPoolExecutor(3) as threads:
        took_s = sorted(threads.map(poll, range(3)))
    assert took_s[1] < 1.5 and took_s[2] > 1.9, took_s
    assert app.state.polls.free == api.POLLS
