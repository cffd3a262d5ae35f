"""Sends a video to a running service, follows its mapping job, and prints the timeline.

    halsted serve run --state example-service     # in another terminal; prints an address and a key
    python examples/call_the_service.py ADDRESS KEY VIDEO

Needs nothing but Python's standard library.
"""

import base64
import hashlib
import json
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any


def main(address: str, key: str, video: Path) -> int:
    def ask(method: str, path: str, body: Any = None, data: bytes | None = None, **headers: str) -> Any:
        if body is not None:
            data, headers = json.dumps(body).encode(), {"content-type": "application/json"}
        request = urllib.request.Request(f"{address}/v1{path}", data, {"x-api-key": key, **headers}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    upload = ask("POST", "/uploads", {"size_bytes": video.stat().st_size})
    with open(video, "rb") as file:
        for number in range(1, 10_001):
            part = file.read(upload["part_bytes"])
            if not part:
                break
            digest = base64.b64encode(hashlib.sha256(part).digest()).decode()
            ask(
                "PUT",
                f"/uploads/{upload['upload_id']}/parts/{number}",
                data=part,
                **{"content-digest": f"sha-256=:{digest}:", "content-type": "application/octet-stream"},
            )
    found = ask("POST", f"/uploads/{upload['upload_id']}/complete", {})

    job = ask("POST", f"/videos/{found['video_id']}/maps", {})
    while job["state"] not in ("done", "failed", "cancelled"):
        time.sleep(1)
        job = ask("GET", f"/jobs/{job['job_id']}")
        print(f"{job['state']}: {job['done_s']:.0f} of {job['total_s']:.0f} s")
    for row in ask("GET", f"/videos/{found['video_id']}/timeline")["rows"]:
        print(f"{row['start_s']:7.1f} {row['end_s']:7.1f}  {row['tag']:12} {row['category']} {row['confidence']:.2f}")
    return 0 if job["outcome"] == "mapped" else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1].rstrip("/"), sys.argv[2], Path(sys.argv[3])))
