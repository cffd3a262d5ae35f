"""A clip of a case: which frames at which times, what is drawn into it, who gets it, what it holds besides."""

from __future__ import annotations

import io
import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np
import pytest
from maps import write_maps
from serving import client_of, new_key, open_service, shared_model, shared_video, upload, write_video
from starlette.testclient import TestClient

from halsted_ray.phantom.frame_number import read_frame_number
from halsted_ray.service import clip_cutting
from halsted_ray.service.api import CUTS_OF_PERSON_WAITING, create_api
from halsted_ray.service.clip_cutting import MOST_CLIP_S, footer_of, words_of
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.database import now_s
from halsted_ray.service.sessions import COOKIE
from halsted_ray.service.tables import Share, StoredVideo

FPS = 10


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> ServiceComponents:
    return open_service(tmp_path_factory.mktemp("site"), shared_model(), requests_per_minute=10**6)


@pytest.fixture
def tenant(request) -> str:
    return re.sub("[^a-z0-9]+", "-", request.node.name)[-50:].strip("-")


@pytest.fixture
def case(service, tenant):
    """A client of the owner of a mapped case of numbered frames, ten per second, and the case's id."""
    with client_of(service, new_key(service, tenant, "owner")) as owner:
        video_id = upload(owner, shared_video())["video_id"]
        write_maps(service.videos.maps_location(tenant, video_id))
        yield owner, video_id


def frames_of(data: bytes) -> list[tuple[float, np.ndarray]]:
    """(time in seconds, picture) of each frame of an MP4."""
    with av.open(io.BytesIO(data)) as container:
        return [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def clip(client, video_id: str, start_s: float, stop_s: float, **more):
    return client.get(f"/v1/videos/{video_id}/clip", params={"start_s": start_s, "stop_s": stop_s, **more})


def test_a_clip_shows_at_each_of_its_times_what_the_video_shows_there_and_lasts_as_long_as_asked(case):
    owner, video_id = case
    answer = clip(owner, video_id, 3.25, 5.1)
    assert answer.status_code == 200 and answer.headers["content-type"] == "video/mp4"
    frames = frames_of(answer.content)
    shown = [(round(at_s, 3), read_frame_number(image)) for at_s, image in frames]
    first = (0.0, 32)  # displayed from 3.2 s on
    assert shown == [first, *((round(number / FPS - 3.25, 3), number) for number in range(33, 51))]
    with av.open(io.BytesIO(answer.content)) as container:
        stream = container.streams.video[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(5.1 - 3.25, abs=1e-4)
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")


def test_a_clip_holds_pictures_alone_no_sound_no_tag_no_name_and_begins_with_its_index(case):
    owner, video_id = case
    data = clip(owner, video_id, 0, 2).content
    with av.open(io.BytesIO(data)) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        tags = {**container.metadata, **container.streams.video[0].metadata}
    assert set(tags) <= {"major_brand", "minor_version", "compatible_brands", "language", "handler_name"}
    assert b"Jane" not in data and b"Lavf" not in data and video_id.encode() not in data
    assert 0 < data.find(b"moov") < data.find(b"mdat")


def test_labels_are_drawn_where_they_are_asked_for_with_the_model_and_nothing_else_of_the_picture_changes(case):
    owner, video_id = case
    plain, burnt = (frames_of(clip(owner, video_id, 1, 2, labels=labels).content) for labels in ("none", "burnt"))
    assert [at_s for at_s, _ in plain] == [at_s for at_s, _ in burnt]
    height = plain[0][1].shape[0]
    for (_, before), (_, after) in zip(plain, burnt, strict=True):
        below, above = slice(height * 2 // 3, None), slice(0, height // 3)
        assert np.abs(before[below].astype(int) - after[below]).mean() > 20
        assert np.abs(before[above].astype(int) - after[above]).mean() < 4
    looks = owner.get(f"/v1/videos/{video_id}/looks", params={"limit": 1000}).json()
    assert [(one["action"], one["detail"]["seconds"], one["detail"]["labels"]) for one in looks[-2:]] == [
        ("clip.read", [1.0, 2.0], "none"),
        ("clip.read", [1.0, 2.0], "burnt"),
    ]


def test_the_words_are_step_and_action_with_confidence_and_the_footer_names_ai_and_the_version():
    def row(tag: str, category: str, confidence: float) -> dict:
        times = {"start_s": 1.0, "end_s": 2.0}
        return {**times, "tag": tag, "category": category, "confidence": confidence, "model_version": "m-7"}

    rows = [row("action", "Push/Peel", 0.704), row("arm", "Left", 0.9), row("step", "Suturing", 0.92)]
    assert words_of(rows) == [(1.0, 2.0, "Step: Suturing (92 %)"), (1.0, 2.0, "Action: Push/Peel (70 %)")]
    assert footer_of(rows).startswith("Labels by AI, model m-7. Research only")


def test_a_clip_that_is_too_long_or_outside_the_video_is_refused_in_words(service, tenant, case):
    owner, video_id = case
    with service.database.writing() as session:
        session.get_one(StoredVideo, (tenant, video_id)).duration_s = 500.0
    answer = clip(owner, video_id, 1, 1 + MOST_CLIP_S + 1)
    assert answer.status_code == 413 and "at most 120 s" in answer.json()["detail"]
    for span in ((5, 5), (6, 5), (499, 501)):
        answer = clip(owner, video_id, *span)
        assert answer.status_code == 422 and "500.000 s that the video lasts" in answer.json()["detail"], span


def test_burnt_labels_of_a_case_without_a_map_are_refused_in_words(service, tenant, tmp_path):
    with client_of(service, new_key(service, tenant, "owner")) as owner:
        video_id = upload(owner, write_video(tmp_path / "unmapped.mp4", 3.0))["video_id"]
        answer = clip(owner, video_id, 0, 1, labels="burnt")
        assert answer.status_code == 404 and "ask for a map first" in answer.json()["detail"]
        assert clip(owner, video_id, 0, 1).status_code == 200


def test_a_link_to_a_part_gets_clips_within_it_and_a_link_without_the_map_no_labels(service, case):
    owner, video_id = case
    where = f"/v1/videos/{video_id}/links"
    tokens = {}
    for shows in (("video",), ("video", "timeline"), ("timeline",)):
        made = owner.post(where, json={"days": 1, "from_s": 2, "to_s": 6, "shows": shows}).json()
        tokens[shows] = made["url"].partition("#shared=")[2]
    for shows, token in tokens.items():
        with client_of(service) as browser:
            browser.post("/session/link", json={"token": token})
            may_watch = "video" in shows
            assert clip(browser, video_id, 2, 6).status_code == (200 if may_watch else 403), shows
            assert clip(browser, video_id, 1.9, 6).status_code == clip(browser, video_id, 2, 6.1).status_code == 403
            expected = 200 if shows == ("video", "timeline") else 403
            assert clip(browser, video_id, 3, 4, labels="burnt").status_code == expected, shows


def test_whoever_loses_the_right_while_the_clip_is_cut_does_not_get_it(service, tenant, case, monkeypatch):
    owner, video_id = case
    new_key(service, tenant, "trainee", "trainee")
    share = owner.post(f"/v1/videos/{video_id}/shares", json={"user": "trainee", "relation": "trainee"}).json()
    cut = clip_cutting.cut

    def cut_and_end(*what):
        data = cut(*what)
        with service.database.writing() as session:
            session.get_one(Share, share["share_id"]).expires_s = now_s() - 1
        return data

    with client_of(service, new_key(service, tenant, "trainee", "trainee")) as trainee:
        assert clip(trainee, video_id, 0, 1).status_code == 200
        monkeypatch.setattr(clip_cutting, "cut", cut_and_end)
        assert clip(trainee, video_id, 0, 1).status_code == 404


def test_a_part_without_pictures_is_refused_in_words(service, tenant, tmp_path):
    with client_of(service, new_key(service, tenant, "owner")) as owner:
        video_id = upload(owner, write_video(tmp_path / "short.mp4", 2.0))["video_id"]
        with service.database.writing() as session:  # as of a file whose end is lost
            session.get_one(StoredVideo, (tenant, video_id)).duration_s = 60.0
        answer = clip(owner, video_id, 40, 50)
        assert answer.status_code == 422 and "nothing was recorded there" in answer.json()["detail"]


def test_a_clip_that_takes_too_long_is_ended_and_refused_in_words(case, monkeypatch):
    owner, video_id = case
    monkeypatch.setattr(clip_cutting, "CUT_S", 0.0)
    answer = clip(owner, video_id, 0, 1)
    assert answer.status_code == 503 and "ask for a shorter one" in answer.json()["detail"]
    assert int(answer.headers["retry-after"]) > 0


def test_one_clip_of_a_tenant_is_cut_at_a_time_and_neither_a_colleague_nor_a_link_is_kept_out(
    service, tenant, case, monkeypatch
):
    owner, video_id = case
    colleague = {"x-api-key": new_key(service, tenant, "colleague")}
    share = {"user": "colleague", "relation": "trainee", "days": 1}
    assert owner.post(f"/v1/videos/{video_id}/shares", json=share).status_code == 201
    made = owner.post(f"/v1/videos/{video_id}/links", json={"days": 1}).json()
    may_end, at_work, most = threading.Event(), Counter(), Counter()

    def slow_cut(_videos, case, *_span) -> bytes:
        whose = "link" if case.link else "owner"
        at_work[whose] += 1
        most[whose] = max(most[whose], at_work[whose])
        may_end.wait(120)
        at_work[whose] -= 1
        return b"a clip"

    monkeypatch.setattr(clip_cutting, "cut", slow_cut)
    app = create_api(service)
    key = {"x-api-key": owner.headers["x-api-key"]}
    with TestClient(app) as browser, ThreadPoolExecutor(12) as pool:
        browser.post("/session/link", json={"token": made["url"].partition("#shared=")[2]})
        cookie = {"cookie": f"{COOKIE}={browser.cookies[COOKIE]}"}

        def ask(headers: dict[str, str]):
            where = f"/v1/videos/{video_id}/clip"
            return browser.get(where, params={"start_s": 0, "stop_s": 1}, headers=headers)

        asked = [pool.submit(ask, key) for _ in range(CUTS_OF_PERSON_WAITING + 4)]
        shown = pool.submit(ask, cookie)
        until_s = time.monotonic() + 120
        while not (at_work["link"] and any(one.done() for one in asked)) and time.monotonic() < until_s:
            time.sleep(0.02)
        refused = [one.result() for one in asked if one.done()]
        others = pool.submit(ask, colleague)
        time.sleep(0.5)  # a refusal would have come by then
        may_end.set()
        statuses = sorted(one.result().status_code for one in asked)
        assert shown.result().status_code == others.result().status_code == 200
    assert {answer.status_code for answer in refused} == {429} and refused[0].headers["retry-after"]
    assert statuses == [200] * (CUTS_OF_PERSON_WAITING + 1) + [429] * 3 and most == {"owner": 1, "link": 1}
