"""The gate of the real service: planted names are found nowhere, and a service that is killed goes on cleaning.

Everything that the service writes is searched, file by file: its state, its store, its temporary files, the logs of
Ray, a model registry; and everything that it answers.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import planted
import pytest
from serving import save_model, send_parts
from whole_service import Server, wait_for

from halsted_ray.phantom.interruptions import Interruption
from halsted_ray.phantom.script import make_script
from halsted_ray.phantom.write import write_video
from halsted_ray.service.front import free_port

pytest.importorskip("rapidocr_onnxruntime")
pytestmark = pytest.mark.slow
WORDS = "DOE JANE 12.03.1957"
OUTSIDE = Interruption(9.0, 13.0, "operating room", 3)
TEXT_AT = ((2.0, 5.0), (10.0, 12.0))
"""Seconds with the words in the picture: inside of the body, and outside."""
SECONDS = 16.0
LONG_S = 12.0
"""Of the video that is cleaned when the service is killed: that takes longer than it lasts."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A service that looks for everything, whose temporary files and logs lie in its own folder."""
    folder = tmp_path_factory.mktemp("gate")
    save_model(folder / "models" / "0", 0)
    (folder / "models" / "champion").write_text("0\n")
    (folder / "tmp").mkdir()
    changed = {
        "HALSTED_DEIDENTIFY": "full",
        "TMPDIR": str(folder / "tmp"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    found = Server(folder, free_port())
    try:
        found.start()
        yield found
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        found.stop()


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    """A phantom with an operating room in it, the words burned in inside and outside of the body, and the name in every
    place of the file and in the file's name."""
    folder = tmp_path_factory.mktemp("recordings")
    write_video(folder / "phantom.mp4", make_script(8_100_000, SECONDS), 640, 360, interruptions=[OUTSIDE])
    with av.open(str(folder / "phantom.mp4")) as source, av.open(str(folder / "words.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"g": "25", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for frame in source.decode(video=0):
            image_HWC = np.ascontiguousarray(frame.to_ndarray(format="rgb24"))
            if any(start_s <= frame.time < stop_s for start_s, stop_s in TEXT_AT):
                cv2.rectangle(image_HWC, (40, 30), (420, 75), (0, 0, 0), -1)
                cv2.putText(image_HWC, WORDS, (60, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (255, 255, 255), 2)
            shown = av.VideoFrame.from_ndarray(image_HWC, format="rgb24")
            shown.pts, shown.time_base = frame.pts, frame.time_base
            out.mux(stream.encode(shown))
        out.mux(stream.encode(None))
    path = folder / f"{planted.NAME}.mp4"
    return planted.recording(path, seconds=SECONDS, picture_of=folder / "words.mp4")


def lines_in(path: Path) -> Iterator[str]:
    """The text that looks like the words, in any fifth frame where they were and around it, and one per second else."""
    from rapidocr_onnxruntime import RapidOCR

    reader = RapidOCR(intra_op_num_threads=1)
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            is_near = any(start_s - 0.5 <= frame.time < stop_s + 0.5 for start_s, stop_s in TEXT_AT)
            if number % (5 if is_near else 25) == 0:
                result, _ = reader(frame.to_ndarray(format="bgr24"), use_cls=False)
                yield from (
                    text for _, text, _ in result or () if any(word in text for word in ("DOE", "JANE", "1957"))
                )


def files_with_a_name(server: Server) -> list[str]:
    """Every file of the service, and every log of its Ray, that holds the name or is called by it."""
    logs = {
        Path(os.readlink(link)).parents[0]
        for pid in server.processes()
        for link in _links(pid)
        if "/logs/" in os.readlink(link)
    }
    roots = [server.folder, *sorted(logs)]
    assert logs and any((server.folder / "tmp").rglob("*")), "the places that are searched are the service's"
    files = {path for root in roots for path in root.rglob("*") if path.is_file()}
    assert any(path.name == "halsted.db" for path in files) and any(path.suffix == ".parquet" for path in files)
    found = []
    for path in files:
        try:
            data = path.read_bytes()
        except OSError:  # a socket, or gone meanwhile
            continue
        if planted.places_of(data) or planted.places_of(str(path).encode()):
            found.append(str(path))
    return found


def _links(pid: int) -> list[Path]:
    try:
        return [link for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
    except OSError:
        return []


def dicom_with_a_name(path: Path) -> Path:
    """A DICOM file whose header names the patient."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset

    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = "1.2.840.10008.1.2.4.102", "1.2.840.10008.5.1.4.1.1.77.1.1.1"
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    found = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    found.PatientName, found.PatientID = planted.NAME, planted.NAME
    found.SOPClassUID, found.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    found.PixelData = pydicom.encaps.encapsulate([bytes(10_000)])
    found["PixelData"].VR = "OB"
    found.save_as(path, enforce_file_format=True)
    assert planted.places_of(path.read_bytes())
    return path


def test_planted_names_are_found_nowhere_after_upload_and_map(server, recording, tmp_path):
    assert next(lines_in(recording)), "a person can read it before"
    answers: list[bytes] = []
    with server.client() as client:
        client.event_hooks["response"].append(lambda answer: answers.append(str(answer.headers).encode()))
        complete = send_parts(client, recording)
        video_id = complete["video_id"]
        where = f"/v1/videos/{video_id}"
        job = client.post(f"{where}/maps", json={}).json()
        with client.stream("GET", f"/v1/jobs/{complete['cleaning_job']['job_id']}/events") as events:
            answers += [line.encode() for line in events.iter_lines()]
        end = wait_for(client, job["job_id"])
        assert (end["state"], end["outcome"]) == ("done", "mapped"), end
        shown = client.get(where).json()
        assert shown["state"] == "review" and shown["cleaning"]["level"] == "full", shown
        certificate = client.get(f"{where}/certificate").json()
        content = client.get(f"{where}/content", headers={"Range": "bytes=0-"})

        # A Matroska file carries subtitles and attachments too.
        films = planted.recording(tmp_path / f"{planted.NAME}.mkv", seconds=2.0, look=5)
        with av.open(str(films)) as container:
            assert {"subtitle", "attachment", "audio"} <= {stream.type for stream in container.streams}
        cleaned = wait_for(client, send_parts(client, films)["cleaning_job"]["job_id"])
        assert (cleaned["state"], cleaned["reason"]) == ("done", None), cleaned
        other = f"/v1/videos/{cleaned['video_id']}"
        answers += [client.get(f"{other}/content", headers={"Range": "bytes=0-"}).content, client.get(other).content]
        removed = client.get(f"{other}/certificate").json()["removed"]["carried"]["streams"]
        assert removed == {"audio": 1, "subtitle": 1, "attachment": 1, "video": 1}, "the cover is a video stream"

        # What is refused: a file that is no video, one of DICOM, ids and places that hold the name.
        broken = tmp_path / "broken.mp4"
        broken.write_bytes(recording.read_bytes()[:3000] + planted.NAME.encode() * 100)
        for path in (broken, dicom_with_a_name(tmp_path / "name.dcm")):
            refused = send_parts(client, path)
            assert "video_id" not in refused and refused["detail"], refused
            answers.append(json.dumps(refused).encode())
        named = {"instruction": planted.NAME, "uri": f"{planted.NAME}.mp4"}
        for answer in (
            client.post("/v1/clips:map", json=named),
            client.get(f"/v1/videos/{planted.NAME}"),
            client.post("/v1/clips:map?instruction=map+procedure+type", content=broken.read_bytes()),
            client.post("/v1/uploads", json={"size_bytes": planted.NAME}),
        ):
            assert answer.status_code in (404, 422), answer.text
        for path in (
            "/v1/videos",
            where,
            f"{where}/certificate",
            f"{where}/timeline",
            f"{where}/timeline?format=csv",
            f"{where}/timeline?format=vtt",
            f"{where}/maps",
            f"{where}/people",
            f"{where}/looks",
            f"/v1/jobs/{job['job_id']}",
            "/v1/audit?limit=1000",
            "/v1/storage",
            "/metrics",
            "/",
            "/openapi.json",
        ):
            answer = client.get(path)
            assert answer.status_code == 200, (path, answer.text)
            answers.append(answer.content)
    assert not [answer[:200] for answer in answers if planted.places_of(answer)]
    assert content.status_code == 206 and planted.places_of(content.content) == []
    clean = tmp_path / "clean.mp4"
    clean.write_bytes(content.content)
    black = certificate["black"]
    assert any(span["start_s"] <= OUTSIDE.start_s and span["stop_s"] >= OUTSIDE.stop_s for span in black["spans"]), (
        black
    )
    assert any(mask["start_s"] <= 2.0 and mask["stop_s"] >= 5.0 for mask in black["masks"]), black
    assert list(lines_in(clean)) == []
    time.sleep(1.0)  # logs are written behind
    assert files_with_a_name(server) == []


def test_a_service_that_is_killed_while_it_cleans_goes_on_and_leaves_no_original(server, recording, tmp_path):
    long = tmp_path / "long.mp4"
    with av.open(str(recording)) as source, av.open(str(long), "w") as out:  # the same pictures again and again
        stream = out.add_stream("libx264", rate=25, options={"g": "25", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        images = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)][:250]
        for n in range(round(LONG_S * 25)):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(images[n % len(images)], format="rgb24")))
        out.mux(stream.encode(None))
    path = planted.recording(tmp_path / "named.mp4", seconds=LONG_S, picture_of=long)
    with server.client() as client:
        video = send_parts(client, path)
        job_id = video["cleaning_job"]["job_id"]
        until_s = time.monotonic() + 120
        while (job := client.get(f"/v1/jobs/{job_id}").json())["done_s"] == 0 and time.monotonic() < until_s:
            assert job["state"] in ("queued", "running"), job
            time.sleep(0.05)
    assert job["state"] == "running" and job["phase"] == "cleaning" and job["done_s"] < LONG_S, job
    server.kill()
    assert files_with_a_name_in(server.state / "store"), "killed while the original was there"
    server.start()
    with server.client() as client:
        end = wait_for(client, job_id)
        shown = client.get(f"/v1/videos/{video['video_id']}").json()
    assert (end["state"], end["attempts"], shown["state"]) == ("done", 2, "review"), (end, shown)
    assert files_with_a_name_in(server.folder) == []
    place = next(
        path for path in (server.state / "store").rglob("clean.mp4") if path.stat().st_size == shown["size_bytes"]
    )
    assert sorted(file.name for file in place.parent.iterdir() if file.suffix != ".lock") == ["clean.mp4", "poster.jpg"]


def files_with_a_name_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and planted.places_of(path.read_bytes())]
