"""Every line of the documentation that calls the service by curl, as it stands there, against a running service."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hospital_files import write_dicom
from maps import WHOLE, write_maps
from serving import client_of, new_key, on_a_port, open_service, shared_model, shared_video, upload

from halsted_ray.service.tables import StoredVideo
from halsted_ray.storage.vectors import VectorStore

PAGES = Path(__file__).parents[1] / "docs"


def blocks() -> list[tuple[str, str]]:
    """(page, block of code) that calls curl, of all pages."""
    found = []
    for page in sorted(PAGES.rglob("*.md")):
        for block in re.findall(r"^```(?:sh|bash|text)\n(.*?)^```", page.read_text(), re.M | re.S):
            if re.search(r"\bcurl\b", block):
                found.append((page.stem, block))
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with what the lines name, and the environment in which they run."""
    folder = tmp_path_factory.mktemp("typed")
    service = open_service(folder / "site", shared_model(), with_clips=True, requests_per_minute=10**6)
    key = new_key(service)
    with client_of(service, key) as client:
        video = upload(client, shared_video())
        with service.database.writing() as session:  # the lines are about an operation that is longer
            session.get_one(StoredVideo, ("north", video["video_id"])).duration_s = 120.0
        place = service.videos.maps_location("north", video["video_id"])
        write_maps(place)
        vectors = {("fine", 2.5 * n, 2.5 * n + 2.5): np.array([1.0, n, 2.0]) for n in range(48)}
        VectorStore(f"{place}/embeddings", "ab", "reference").put(WHOLE, 0.0, 120.0, vectors)
    for name in ("clip.mp4", "video.mp4"):
        shutil.copy(shared_video(), folder / name)
    write_dicom(folder / "case.dcm", shared_video().read_bytes())
    with on_a_port(service) as address:
        names = {"KEY": key, "URL": f"{address}v1", "VIDEO": video["video_id"], "CASE": video["case_id"]}
        yield folder, {**os.environ, **names, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


@pytest.mark.parametrize(("page", "block"), blocks(), ids=[page for page, _ in blocks()])
def test_a_line_of_curl_does_what_it_says_as_it_is_typed(site, page, block):
    folder, environment = site
    typed = re.sub(r"^KEY=\.\.\.; URL=\S+\n", "", block, flags=re.M)
    # What curl is told besides only makes a refusal an exit code.
    script = f'set -eo pipefail\ncurl() {{ command curl -sS --fail-with-body "$@"; }}\n{typed}'
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0, (page, done.stdout[-600:], done.stderr[-600:])
    assert done.stdout.strip(), "something is answered"


def test_the_lines_of_every_page_are_tried():
    assert {page for page, _ in blocks()} >= {"serve", "stitches", "library", "correct-maps", "dicom"}
    assert len(blocks()) >= 7
