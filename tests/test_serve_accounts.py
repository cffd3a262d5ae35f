"""Keys, the first administrator, addresses, ranges, and an audit log that misses no look and shows a cut tail."""

from __future__ import annotations

import socket
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from maps import write_maps
from serving import client_of, new_key, open_service, shared_model, shared_video, upload

from halsted_ray.cli import main
from halsted_ray.errors import UsageError
from halsted_ray.service import audit_export, audit_places, setup_link, users
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.housekeeping import Housekeeper
from halsted_ray.service.local_server import serve_until_stopped
from halsted_ray.service.prepared_timelines import PreparedTimelines
from halsted_ray.service.settings import Settings
from halsted_ray.service.tables import ApiKey, StoredVideo
from halsted_ray.taxonomy import load


@pytest.fixture
def service(tmp_path) -> ServiceComponents:
    return open_service(tmp_path, shared_model(), with_clips=True, requests_per_minute=10**6)


def entries(service, action: str) -> list[dict]:
    with client_of(service, new_key(service, user="reads-log", role="auditor")) as auditor:
        found = auditor.get("/v1/audit", params={"limit": 1000}).json()["entries"]
    return [entry for entry in found if entry["action"] == action]


def test_every_look_at_a_picture_or_a_map_is_one_entry_with_its_span_and_its_address(service):
    with client_of(service, new_key(service)) as client:
        video = upload(client, shared_video())
        write_maps(service.videos.maps_location("north", video["video_id"]))
        where = f"/v1/videos/{video['video_id']}"
        size = video["size_bytes"]
        for asked in ("bytes=1-", "bytes=5-9", "bytes=-7", "bytes=0-0"):
            assert client.get(f"{where}/content", headers={"Range": asked}).status_code == 206
        client.get(f"{where}/timeline?format=csv", headers={"x-forwarded-for": "203.0.113.9"})
        clip = {"instruction": "map procedure type", "video_id": video["video_id"], "start_s": 1, "stop_s": 3}
        assert client.post("/v1/clips:map", json=clip).status_code == 200
    spans = [entry["detail"]["bytes"] for entry in entries(service, "video.read")]
    assert spans == [[1, size], [5, 10], [size - 7, size], [0, 1]]
    (map_read,), (clip_read,) = entries(service, "timeline.read"), entries(service, "clip.read")
    assert map_read["detail"]["seconds"] == [0.0, video["duration_s"]]
    assert clip_read["detail"]["seconds"] == [1.0, 3.0] and clip_read["subject"] == video["video_id"]
    addresses = {entry["detail"]["address"] for entry in (map_read, clip_read)}
    assert addresses == {"testclient"}, "nobody believes a client's own X-Forwarded-For"


@pytest.mark.parametrize("secret, address", [("the front's", "203.0.113.9"), ("another", "testclient")])
def test_the_address_of_a_client_is_believed_from_the_front_only(service, secret, address):
    service.settings = replace(service.settings, front_secret="the front's")
    with client_of(service) as client:
        headers = {"x-forwarded-for": "203.0.113.9", "x-halsted-front": secret, "x-api-key": "hk_00_wrong"}
        assert client.get("/v1/videos", headers=headers).status_code == 401
    last = command_lines(service, "--last", "1")
    assert f'"address": "{address}"' in last and '"action": "sign-in.refused"' in last


def command_lines(service, *words: str) -> str:
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        main(["serve", "audit", "--state", str(Path(service.store.root).parent), *words])
    return out.getvalue()


def test_failed_sign_ins_are_entries_of_the_tenant_whose_key_it_was(service):
    key = new_key(service)
    with client_of(service) as anybody:
        assert anybody.post("/session", json={"key": f"{key}x"}).status_code == 401
        assert anybody.get("/v1/videos", headers={"x-api-key": f"{key}x"}).status_code == 401
    found = entries(service, "sign-in.refused")
    assert [(one["subject"], one["detail"]["how"]) for one in found] == [
        (key.split("_")[1], "page"),
        (key.split("_")[1], "key"),
    ]
    assert key.split("_", 2)[2] not in str(found)


def test_a_tail_that_was_cut_off_and_a_log_written_anew_differ_from_what_was_exported(service, tmp_path):
    place, state = str(tmp_path / "elsewhere"), str(tmp_path)
    with client_of(service, new_key(service)) as client:
        client.post("/v1/uploads", json={})
    service.settings = Settings(service.settings.database, service.settings.store, "m", audit_to=place)
    Housekeeper(service, PreparedTimelines(service.videos, load)).look()
    assert audit_export.export(service.database, place) is None, "nothing new"
    assert main(["serve", "audit", "--state", state, "--against", place]) == 0
    with closing(sqlite3.connect(tmp_path / "halsted.db")) as database:
        database.execute("DROP TRIGGER audit_no_delete")
        database.execute("DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)")
        database.execute(
            "UPDATE heads SET seq = (SELECT max(seq) FROM audit), "
            "digest = (SELECT digest FROM audit ORDER BY seq DESC LIMIT 1) WHERE name = 'audit'"
        )
        database.commit()
    assert main(["serve", "audit", "--state", state]) == 0, "the log alone can't tell"
    assert main(["serve", "audit", "--state", state, "--against", place]) == 3
    assert "its tail was cut off" in command_lines(service, "--against", place)
    new_key(service, user="later")  # the log grows over the place of the cut
    assert "has another digest than was exported" in command_lines(service, "--against", place)
    assert main(["serve", "audit", "--state", state, "--against", str(tmp_path / "store")]) == 2


def test_digests_go_to_a_log_server_and_come_back_from_its_file(service, tmp_path):
    new_key(service)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as log:
        log.bind(("127.0.0.1", 0))
        log.settimeout(10)
        audit_export.export(service.database, f"syslog://127.0.0.1:{log.getsockname()[1]}")
        line = log.recv(1000)
    (tmp_path / "site.log").write_bytes(b"other\n" + line)
    assert line.startswith(b"<109>1 ") and len(audit_places.read(str(tmp_path / "site.log"))) == 1
    assert main(["serve", "audit", "--state", str(tmp_path), "--against", str(tmp_path / "site.log")]) == 0


def test_the_first_administrator_is_made_once_and_no_key_is_issued_without_an_end(service):
    with service.database.writing() as session:
        first, second = setup_link.begin(session), setup_link.begin(session)
    body = {"tenant": "north", "user": "root"}
    with client_of(service) as browser:
        assert browser.post("/session/setup", json={**body, "token": first}).status_code == 401, "replaced"
        made = browser.post("/session/setup", json={**body, "token": second})
        assert made.status_code == 201 and browser.get("/session").json()["role"] == "admin"
        assert browser.post("/session/setup", json={**body, "token": second}).status_code == 401, "used"
    with service.database.writing() as session:
        assert setup_link.begin(session) is None
    with client_of(service, made.json()["key"]) as admin:
        admin.post("/v1/keys", json={"user": "ada", "role": "surgeon"})
        assert admin.post("/v1/keys", json={"user": "ada", "role": "surgeon", "days": 4000}).status_code == 422
        assert all(key["expires_s"] - key["created_s"] <= 366 * 86_400 for key in admin.get("/v1/keys").json())


def test_a_key_is_rotated_by_its_user_or_an_administrator_and_not_by_others(service, tmp_path, capsys):
    key, admin_key = new_key(service), new_key(service, user="root", role="admin")
    where = f"/v1/keys/{users.key_id_of(key)}:rotate"
    with client_of(service, key) as ada, client_of(service, new_key(service, user="bob")) as bob:
        assert bob.post(where).status_code == 404
        made = ada.post(where)
        assert made.status_code == 201 and ada.get("/v1/videos").status_code == 200, "the old one for a day"
    with client_of(service, made.json()["key"]) as ada:
        assert ada.get("/v1/videos").status_code == 200
    with client_of(service, admin_key) as admin:
        shown = {one["key_id"]: one for one in admin.get("/v1/keys").json()}
        old, new = shown[users.key_id_of(key)], shown[made.json()["key_id"]]
        assert old["expires_s"] < new["expires_s"] and old["expires_s"] - new["created_s"] <= users.ROTATION_S + 1
        assert main(["serve", "key", "--state", str(tmp_path), "revoke", made.json()["key_id"]]) == 0
        assert main(["serve", "key", "--state", str(tmp_path), "rotate", users.key_id_of(admin_key)]) == 0
        rotated = capsys.readouterr().out.split()[-1]
        assert main(["serve", "key", "--state", str(tmp_path), "rotate", made.json()["key_id"]]) == 2, "revoked"
        typo = tmp_path / "typo"
        assert main(["serve", "key", "--state", str(typo), "rotate", made.json()["key_id"]]) == 2
        assert "no site" in capsys.readouterr().err and not typo.exists(), "only a first key makes a site"
    with client_of(service, rotated) as admin:
        assert admin.get("/v1/audit").status_code == 200


def test_another_site_s_name_is_refused_and_gets_into_no_address(service, tmp_path):
    with client_of(service, new_key(service)) as client:
        where = f"/v1/uploads/{client.post('/v1/uploads', json={}).json()['upload_id']}/parts/1/address"
        for host in ("evil.example", "evil.example:80", "testserver.evil.example", "x@testserver.evil.example"):
            refused = client.post(where, headers={"host": host})
            assert refused.status_code == 421 and "evil" not in refused.text, host
            assert client.get("/healthz", headers={"host": host}).status_code == 200
        url = client.post(where, headers={"host": "localhost:9"}).json()["url"]
        astray = client.get("/metrics/", headers={"host": "localhost:9"}, follow_redirects=False)
        assert astray.status_code == 404 and "location" not in astray.headers
        assert url.startswith("http://testserver/"), "no address is made from Host"
    named = open_service(tmp_path / "named", shared_model(), public_url="https://halsted.example/")
    with client_of(named, new_key(named)) as client:
        assert client.get("/v1/videos", headers={"host": "halsted.example"}).status_code == 200
        assert "https://halsted.example/v1" in client.get("/docs", headers={"host": "halsted.example"}).text
    with pytest.raises(UsageError, match="set HALSTED_PUBLIC_URL"):
        serve_until_stopped(service.settings, "0.0.0.0", 8000)


def test_ranges_and_heads_as_rfc_9110_says(service):
    with client_of(service, new_key(service)) as client:
        video_id = upload(client, shared_video())["video_id"]
        data = service.videos.read(service.videos.get("north", video_id), 0, 2**30)
        write_maps(service.videos.maps_location("north", video_id))
        where = f"/v1/videos/{video_id}/content"
        last = client.get(where, headers={"Range": "bytes=-10"})
        assert (last.status_code, last.content) == (206, data[-10:])
        assert last.headers["content-range"] == f"bytes {len(data) - 10}-{len(data) - 1}/{len(data)}"
        assert (
            client.get(where, headers={"Range": f"bytes=-{len(data) + 5}"})
            .headers["content-range"]
            .startswith("bytes 0-")
        )
        assert client.get(where, headers={"Range": "bytes=-0"}).status_code == 416
        for ignored in ("bytes=", "bytes=-", "bytes=0-1,5-6", "items=0-5"):
            whole = client.get(where, headers={"Range": ignored})
            assert (whole.status_code, whole.content) == (200, data), ignored
        head = client.head(where, headers={"Range": "bytes=0-5"})
        assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(data)), b"")
        assert head.headers["content-type"] == "video/mp4" and head.headers["accept-ranges"] == "bytes"
        assert client.head(f"/v1/videos/{video_id}/timeline").status_code == 200
        assert client.head("/v1/videos/ab/content").status_code == 404


def test_the_owner_of_an_old_video_is_who_uploaded_it_and_old_keys_get_an_end(tmp_path):
    """The migration of a site of the version before."""
    from alembic import command
    from alembic.config import Config

    from halsted_ray.service import database as module

    found = module.Database(f"sqlite:///{tmp_path}/old.db")
    config = Config()
    config.set_main_option("script_location", str(Path(module.__file__).parent / "migrations"))
    with found._writer.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        connection.exec_driver_sql("INSERT INTO tenants (tenant_id, created_s) VALUES ('north', 1)")
        connection.exec_driver_sql(
            "INSERT INTO users (user_id, tenant_id, name, role, created_s) VALUES ('u1', 'north', 'ada', 'surgeon', 1)"
        )
        connection.exec_driver_sql(
            "INSERT INTO keys (key_id, user_id, secret_sha256, created_s) VALUES ('k1', 'u1', 'x', 1)"
        )
        for video_id in ("aa", "bb"):
            connection.exec_driver_sql(
                "INSERT INTO videos (tenant_id, video_id, place, size_bytes, duration_s, width, height, fps, codec, "
                f"created_s) VALUES ('north', '{video_id}', 'p', 1, 1, 1, 1, 1, 'h264', 1)"
            )
        connection.exec_driver_sql(
            "INSERT INTO uploads (upload_id, tenant_id, user_id, state, place, store_ref, video_id, created_s) "
            "VALUES ('up', 'north', 'u1', 'complete', 'p', '', 'aa', 1)"
        )
    found.migrate()
    with found.reading() as session:
        owners = {one.video_id: one.owner_id for one in session.query(StoredVideo)}
        assert owners == {"aa": "u1", "bb": None}
        assert session.get_one(ApiKey, "k1").expires_s > module.now_s() + 89 * 86_400
    found.close()
