"""The state of a site in a real database, SQLite and PostgreSQL: schema, keys, audit log, queue of jobs, metrics."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from halsted_ray import taxonomy as taxonomies
from halsted_ray.compute.progress import Progress
from halsted_ray.errors import UsageError
from halsted_ray.service import audit, users
from halsted_ray.service.annotations import Annotations, WantedChange
from halsted_ray.service.cases import Case
from halsted_ray.service.database import Database, now_s
from halsted_ray.service.job_worker import _ProgressRecorder
from halsted_ray.service.jobs import Jobs
from halsted_ray.service.object_store import FolderStore
from halsted_ray.service.prometheus import Metrics
from halsted_ray.service.schemas import show_job
from halsted_ray.service.storage_room import QuotaExceeded, StorageRoom, StorageUse
from halsted_ray.service.tables import Base, Job, ReplicaMetrics, StoredVideo, Upload, UploadPart


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path) -> Database:
    if request.param == "sqlite":
        found = Database(f"sqlite:///{tmp_path}/state/halsted.db")
    else:
        server = request.getfixturevalue("postgres")
        name = f"t{time.monotonic_ns()}"
        making = Database(server.url("postgres"))
        with making.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        making.close()
        found = Database(server.url(name))
    found.migrate()
    yield found
    found.close()


def add_caller(database: Database, tenant_id: str = "north", name: str = "ada", role: str = "surgeon"):
    with database.writing() as session:
        users.add_tenant(session, tenant_id)
        user = users.add_user(session, tenant_id, name, role)
        key = users.issue_key(session, user)
        return users.authenticate(session, key), key


def add_video(database: Database, tenant_id: str, video_id: str) -> None:
    with database.writing() as session:
        session.add(
            StoredVideo(
                tenant_id=tenant_id,
                video_id=video_id,
                place=f"videos/{video_id}/video.mp4",
                size_bytes=2**40,
                duration_s=60.0,
                width=1,
                height=1,
                fps=25.0,
                codec="h264",
                created_s=now_s(),
            )
        )


def test_migrations_make_the_schema_that_the_code_expects(database):
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    database.migrate()  # again, on what is there


def test_a_key_is_kept_as_a_digest_and_can_be_revoked(database):
    caller, key = add_caller(database)
    with database.engine.connect() as connection:
        stored = [str(row) for table in Base.metadata.sorted_tables for row in connection.execute(table.select())]
    secret = key.split("_", 2)[2]
    assert not any(secret in row for row in stored) and any(caller.key_id in row for row in stored)
    admin, _ = add_caller(database, name="root", role="admin")
    stranger, _ = add_caller(database, "south", "eve", "admin")
    with database.writing() as session:
        assert not users.revoke_key(session, stranger, caller.key_id), "another tenant's"
        assert users.authenticate(session, key) == caller
        for wrong in (key[:-1], key + "x", "hk_" + caller.key_id, "", "hk__", secret):
            assert users.authenticate(session, wrong) is None
        assert users.revoke_key(session, admin, caller.key_id)
        assert users.authenticate(session, key) is None
        expired = users.issue_key(session, users.add_user(session, "north", "ada", "surgeon"), days=-1)
        assert users.authenticate(session, expired) is None
        with pytest.raises(UsageError, match="role"):
            users.add_user(session, "north", "ada", "admin")
        for name in ("../up", "UPPER", "", "a/b", "-x"):
            with pytest.raises(UsageError, match="tenant"):
                users.add_tenant(session, name)


def test_the_audit_log_only_grows_and_shows_what_was_changed_past_the_triggers(database):
    add_caller(database)
    with ThreadPoolExecutor(4) as pool:  # several writers at once still make one chain
        list(pool.map(lambda n: _record(database, n), range(20)))
    with database.writing() as session:
        verdict = audit.verify(session)
    assert verdict.whole and verdict.entries == 23
    for statement in ("UPDATE audit SET actor = 'nobody'", "DELETE FROM audit WHERE seq = 5"):
        with pytest.raises(DBAPIError, match="append-only"), database.writing() as session:
            session.execute(text(statement))
    with database.writing() as session:
        for statement in (
            ("DROP TRIGGER audit_no_update", "DROP TRIGGER audit_no_delete")
            if database.is_sqlite
            else ("ALTER TABLE audit DISABLE TRIGGER audit_append_only",)
        ):
            session.execute(text(statement))
    for statement, reason in (
        ("UPDATE audit SET subject = 'other' WHERE seq = 7", "7 is not what was written"),
        ("DELETE FROM audit WHERE seq = 5", "5 is missing"),
        ("DELETE FROM audit WHERE seq >= 5", "23 entries were written, 4 are there"),
    ):
        with database.writing() as session:
            session.execute(text(statement))
            verdict = audit.verify(session)
        assert not verdict.whole and reason in verdict.reason


def _record(database: Database, n: int) -> None:
    with database.writing() as session:
        audit.record(session, "north", "ada", "test", f"subject-{n}", number=n)


def test_the_queue_is_fair_between_tenants_and_gives_a_video_to_one_worker(database):
    north, _ = add_caller(database)
    south, _ = add_caller(database, "south", "bob")
    jobs = Jobs(database)
    for n in range(3):
        add_video(database, "north", f"{n}" * 16)
        jobs.submit(north, f"{n}" * 16, ["macro"])
    assert jobs.submit(north, "0" * 16, ["macro"]).job_id == jobs.of_video("north", "0" * 16)[0].job_id, "asked twice"
    jobs.submit(north, "0" * 16, ["micro"])
    add_video(database, "south", "0" * 16)
    jobs.submit(south, "0" * 16, ["macro"])
    with ThreadPoolExecutor(4) as pool:
        claimed = list(pool.map(lambda n: jobs.claim(f"worker-{n}"), range(6)))
    held = [(job.tenant_id, job.video_id) for job in claimed if job]
    assert len(held) == len(set(held)) == 4, "north's second job for video 0 waits for the first"
    order = [job.tenant_id for job in sorted((job for job in claimed if job), key=lambda job: job.started_s)]
    assert set(order[:2]) == {"north", "south"}, "south came last and is served second"
    own = next(job for job in claimed if job and job.tenant_id == "south")
    jobs.finish(own.job_id, own.worker, "done", "mapped")
    add_video(database, "north", "9" * 16)
    jobs.submit(north, "9" * 16, ["macro"])
    jobs.submit(south, "0" * 16, ["micro"])
    with database.writing() as session:  # south's last turn was the later one, but it has nothing running
        session.get_one(Job, own.job_id).started_s = now_s()
    assert jobs.claim("worker").tenant_id == "south"


def test_the_job_of_a_lost_worker_passes_to_another_worker_for_good(database):
    north, _ = add_caller(database)
    add_video(database, "north", "a" * 16)
    jobs = Jobs(database, lease_s=0.2)
    job_id = jobs.submit(north, "a" * 16, ["macro"]).job_id
    jobs.claim("first")
    jobs.update(job_id, "first", model="models/7", done_s=30.0)
    assert jobs.heartbeat(job_id, "first") and jobs.claim("second") is None
    time.sleep(0.3)
    again = jobs.claim("second")
    assert (again.job_id, again.model, again.done_s, again.attempts) == (job_id, "models/7", 30.0, 2)
    assert not jobs.heartbeat(job_id, "first"), "it must stop"
    jobs.finish(job_id, "first", "failed", None, "late")
    assert jobs.get("north", job_id).state == "running"
    jobs.finish(job_id, "second", "done", "mapped")
    assert (jobs.get("north", job_id).state, jobs.counts("map")) == ("done", {"done": 1})


def test_a_job_that_finds_no_room_is_queued_again_with_the_reason_unless_it_was_cancelled(database):
    north, _ = add_caller(database)
    add_video(database, "north", "a" * 16)
    jobs = Jobs(database)
    job_id = jobs.submit(north, "a" * 16, ["macro"]).job_id
    jobs.claim("worker")
    jobs.requeue(job_id, "somebody else", "not its job")
    assert jobs.get("north", job_id).state == "running"
    jobs.requeue(job_id, "worker", "waiting: no room")
    job = jobs.get("north", job_id)
    assert (job.state, job.attempts, job.reason) == ("queued", 0, "waiting: no room")
    assert jobs.claim("worker").job_id == job_id
    jobs.cancel(north, job_id)
    jobs.requeue(job_id, "worker", "waiting: no room")
    assert jobs.get("north", job_id).state == "cancelled" and jobs.claim("worker") is None


def test_a_worker_that_is_taken_away_costs_its_job_no_attempt(database):
    north, _ = add_caller(database)
    add_video(database, "north", "a" * 16)
    jobs = Jobs(database, lease_s=-1)
    job_id = jobs.submit(north, "a" * 16, ["macro"]).job_id
    for _ in range(7):
        assert jobs.claim("restarted").attempts == 1
        jobs.refund_attempt(job_id, "somebody else")
        jobs.refund_attempt(job_id, "restarted")


def test_a_job_whose_worker_is_lost_five_times_fails(database):
    north, _ = add_caller(database)
    add_video(database, "north", "a" * 16)
    jobs = Jobs(database, lease_s=-1)
    job_id = jobs.submit(north, "a" * 16, ["macro"]).job_id
    for _ in range(5):
        assert jobs.claim("victim").job_id == job_id
    assert jobs.claim("victim") is None
    job: Job = jobs.get("north", job_id)
    assert job.state == "failed" and "lost 5 times" in job.reason
    assert job.cause == {"code": "worker-lost", "values": {"attempts": 5}}


@pytest.mark.parametrize(
    "job, eta_s",
    [
        ({"state": "running", "rate": 2.0}, 4.0),
        ({"state": "running", "rate": 0.0}, None),
        ({"state": "running", "rate": 2.0, "cancel": True}, None),
        ({"state": "queued", "rate": 2.0}, None),
        ({"state": "cancelled", "rate": 2.0}, None),
        ({"state": "failed", "rate": 2.0}, None),
        ({"state": "done", "rate": 2.0, "done_s": 12.0}, 0.0),
    ],
    ids=str,
)
def test_only_a_job_that_gets_there_has_a_time_to_go(job, eta_s):
    known = {
        "job_id": "j",
        "kind": "map",
        "video_id": "v",
        "tasks": [],
        "done_s": 4.0,
        "total_s": 12.0,
        "failed_segments": 0,
    }
    assert show_job(Job(**{**known, "attempts": 1, "cancel": False, **job})).eta_s == eta_s


def test_a_job_that_waits_for_room_and_a_new_attempt_have_no_time_to_go(database):
    north, _ = add_caller(database)
    add_video(database, "north", "a" * 16)
    jobs = Jobs(database)
    job_id = jobs.submit(north, "a" * 16, ["macro"]).job_id

    def eta_s() -> float | None:
        return show_job(jobs.get("north", job_id)).eta_s

    jobs.claim("worker")
    recorder = _ProgressRecorder(jobs, job_id, "worker")
    recorder.on_progress(Progress(done_s=30.0, total_s=60.0, begun_s=0.0, failed_segments=0, elapsed_s=15.0))
    assert eta_s() == 15.0
    recorder.on_wait("no machine has started yet")
    assert eta_s() is None
    recorder.on_progress(Progress(done_s=30.0, total_s=60.0, begun_s=0.0, failed_segments=0, elapsed_s=15.0))
    jobs.requeue(job_id, "worker", "waiting: no room")
    assert jobs.claim("worker").job_id == job_id and eta_s() is None


def test_cancel_ends_what_waits_and_stops_what_runs(database):
    north, _ = add_caller(database)
    jobs = Jobs(database)
    ids = []
    for n in (1, 2):
        add_video(database, "north", f"{n}" * 16)
        ids.append(jobs.submit(north, f"{n}" * 16, ["macro"]).job_id)
    running = jobs.claim("worker").job_id
    waiting = next(job_id for job_id in ids if job_id != running)
    assert jobs.cancel(north, waiting).state == "cancelled"
    assert jobs.cancel(north, running).state == "running" and not jobs.heartbeat(running, "worker")
    jobs.finish(running, "worker", "cancelled")
    assert jobs.get("north", running).state == "cancelled"


def test_metrics_are_sums_over_all_replicas_and_never_fall(database, monkeypatch):
    def shown(metrics: Metrics) -> dict[str, float]:
        lines = metrics.render({"done": 3}, 60.0, {"failed": 2}, 30.0, {"running": 1}).decode().splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}

    first, second = Metrics(database), Metrics(database)
    for metrics, count in ((first, 2), (second, 3)):
        metrics.requests.labels("GET", "/v1/videos", 200).inc(count)
        metrics.request_s.labels("/v1/videos").observe(0.02 * count)
        metrics.save()
    for metrics in (first, second):
        found = shown(metrics)
        assert found['halsted_requests_total{method="GET",route="/v1/videos",status="200"}'] == 5
        assert found['halsted_request_seconds_bucket{le="0.05",route="/v1/videos"}'] == 1
        assert found['halsted_request_seconds_count{route="/v1/videos"}'] == 2
        assert found['halsted_jobs{state="done"}'] == 3
        assert (found['halsted_cleanings{state="failed"}'], found["halsted_cleaned_video_seconds"]) == (2, 30)
    monkeypatch.setattr(
        "halsted_ray.service.prometheus.now_s", lambda: now_s() + 4000
    )  # both ended long ago, and others came
    third = Metrics(database)
    third.requests.labels("GET", "/v1/videos", 200).inc()
    for _ in range(2):
        assert shown(third)['halsted_requests_total{method="GET",route="/v1/videos",status="200"}'] == 6
        third.save()
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(ReplicaMetrics)) == 2, "the ended ones are one row now"


def test_what_a_tenant_keeps_is_counted_alike_in_both_databases(database, tmp_path):
    north, _ = add_caller(database)
    add_caller(database, "south", "bob")
    add_video(database, "north", "a" * 16)
    add_video(database, "south", "b" * 16)
    room = StorageRoom(FolderStore(str(tmp_path / "store")), quota_bytes=2**40 + 100, reserve_bytes=0)
    with database.writing() as session:
        for upload_id, state, size_bytes in (("1", "open", 60), ("2", "open", None), ("3", "aborted", 10**6)):
            session.add(
                Upload(
                    upload_id=upload_id,
                    tenant_id="north",
                    user_id=north.user_id,
                    state=state,
                    place=f"videos/{upload_id}/video.mp4",
                    store_ref="",
                    size_bytes=size_bytes,
                    created_s=now_s(),
                )
            )
        session.flush()
        for upload_id, number, size_bytes in (("1", 1, 7), ("2", 1, 20), ("2", 2, 5), ("3", 1, 9)):
            session.add(UploadPart(upload_id=upload_id, number=number, size_bytes=size_bytes, sha256="", etag=""))
    with database.reading() as session:
        assert room.use(session, "north") == StorageUse(2**40 + 100, 2**40, 85, 2)
        assert room.use(session, "north").left_bytes == 15
    with database.writing() as session:
        room.check_new_upload(session, "north", 15)
        with pytest.raises(QuotaExceeded, match="has 15 left"):
            room.check_new_upload(session, "north", 16)


def test_two_people_who_annotate_one_case_at_once_lose_nothing(database):
    """Each writes 15 changes from revision 0, in transactions that overlap; the log has every revision once."""
    add_caller(database)
    add_video(database, "north", "ab")
    callers = [add_caller(database, name=name)[0] for name in ("ada", "bob", "eve")]
    annotations, taxonomy = Annotations(database), taxonomies.load()
    with database.reading() as session:
        video = session.get_one(StoredVideo, ("north", "ab"))

    def annotate(caller) -> None:
        case = Case(caller, video, ("surgeon",), frozenset({"annotate", "people"}))
        for n in range(15):
            wanted = WantedChange("add", None, "step", "Suturing", float(n), n + 1.0)
            annotations.change(case, 0, [wanted], taxonomy)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(annotate, callers))
    layer = annotations.read(Case(callers[0], video, ("surgeon",), frozenset({"people"})))
    assert [change.revision for change in layer.changes] == list(range(1, 46)) and len(layer.spans) == 45
    with pytest.raises(DBAPIError, match="never changed"), database.writing() as session:
        session.execute(text("UPDATE annotation_changes SET category = 'Dissection'"))
