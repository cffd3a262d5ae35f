"""Submits a job of this folder to a Ray cluster, follows its log, and ends with the job's own exit code:

    python jobs/submit.py map_archive ARCHIVE --out OUT --model REF
    python jobs/submit.py embed ARCHIVE --encoder REF --embeddings DIR
    python jobs/submit.py train --atlas DIR --out RUN
    python jobs/submit.py evaluate --atlas DIR --out OUT --model REF
    python jobs/submit.py self_label --atlas DIR --archive DIR --model REF --out OUT

`ray job submit` does the same, but only says that a job failed (1), not whether some videos failed (3) or the command
was wrong (2). The cluster is the one of RAY_DASHBOARD_ADDRESS; RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH name the
token. When this command is interrupted, it stops following the log and the job goes on.

Exit codes: that of the job; 2 where the cluster doesn't take the job; 4 where the cluster went away (give the same
command again: it goes on where the job was).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ROOT = Path(__file__).resolve().parents[1]
JOBS = ("map_archive", "embed", "train", "evaluate", "self_label")
WRONG_USE, CLUSTER_LOST = 2, 4


def main(arguments: list[str] | None = None) -> int:
    """Submits the job, prints its log until it ends, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--address",
        default=os.environ.get("RAY_DASHBOARD_ADDRESS", "http://127.0.0.1:8265"),
        help="address of the dashboard (default: RAY_DASHBOARD_ADDRESS, else that of this machine)",
    )
    parser.add_argument("job", choices=JOBS, help="the job to run: a file of jobs/")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="options of the job")
    given = parser.parse_args(arguments)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.exceptions import RayError
    from ray.job_submission import JobSubmissionClient

    words = ["python", f"jobs/{given.job}.py", *given.options]
    try:
        client = JobSubmissionClient(given.address)
        job_id = client.submit_job(entrypoint=shlex.join(words), runtime_env={"working_dir": str(ROOT)})
    except (RayError, ConnectionError, RuntimeError, ValueError) as error:
        print(f"the cluster at {given.address} does not take the job: {error}", file=sys.stderr)
        return WRONG_USE
    print(f"job {job_id} at {given.address}", file=sys.stderr)
    try:
        asyncio.run(follow(client, job_id))
        while not (ended := client.get_job_info(job_id)).status.is_terminal():  # the log ends a moment before the job
            time.sleep(0.5)
    except KeyboardInterrupt:
        print(f"the job goes on; stop it with: ray job stop --address {given.address} {job_id}", file=sys.stderr)
        return 130
    except Exception as error:  # HTTP, the socket or Ray's client, whichever noticed first
        print(
            f"the cluster at {given.address} does not answer any more: {error}; if only the connection broke, the job "
            f"goes on (ray job logs --follow --address {given.address} {job_id}); if the head is lost, give the same "
            "command again: finished segments are kept",
            file=sys.stderr,
        )
        return CLUSTER_LOST
    if ended.driver_exit_code is None:
        print(f"job {job_id}: {ended.status.value.lower()}: {ended.message}", file=sys.stderr)
        return 1
    return ended.driver_exit_code


async def follow(client: JobSubmissionClient, job_id: str) -> None:
    """Prints the job's log until it ends."""
    async for lines in client.tail_job_logs(job_id):
        print(lines, end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
