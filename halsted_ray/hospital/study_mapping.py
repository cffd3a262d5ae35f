"""Maps each study that was received, once it is complete: one at a time, in a process of its own.

The process is ``halsted map`` over the study's folder of the archive. What is mapped is not mapped again, so a study
that got a video later costs that video alone, and a run that was killed goes on where it was.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from halsted_ray.hospital.studies import Studies
from halsted_ray.processes import ends_with_parent

log = logging.getLogger(__name__)
GAPS = 3
"""The exit code of ``halsted map`` where some videos failed or have gaps."""
END_S = 30.0
"""How long a mapping may take to give its claims back when it is stopped."""
REASON_LETTERS = 300


@dataclass(frozen=True)
class StudyMapper:
    """``archive``: where the receiver puts videos. ``maps``: where the maps go. ``quiet_s``: a study without a new
    video for so many seconds is complete. ``options``: further words for ``halsted map``, such as ``("--model",
    "phantom")``."""

    studies: Studies
    archive: Path
    maps: str
    quiet_s: float = 60.0
    options: tuple[str, ...] = ()

    def map_next(self) -> bool:
        """Maps the study that waits longest, and notes what came of it. False where no study is complete."""
        key = self.studies.claim(self.quiet_s)
        if key is None:
            return False
        log.info("study %s: mapping", key)
        code, said = self._run(key)
        if code == 0:
            self.studies.finish(key)
        elif code == GAPS:
            self.studies.finish(key, "some of its videos failed or have gaps: `halsted status` of the maps says which")
        else:
            self.studies.finish(key, f"mapping ended with code {code}: {said}", is_final=False)
        log.info("study %s: %s", key, "mapped" if code == 0 else f"ended with code {code}: {said}")
        return True

    def _run(self, key: str) -> tuple[int, str]:
        """(exit code, the last line that it said)."""
        command = [sys.executable, "-m", "halsted_ray.cli", "map", str(self.archive / key), "--out", self.maps]
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                ends_with_parent([*command, "--settle", "0", *self.options]), stdout=subprocess.DEVNULL, stderr=said
            )
            try:
                code = process.wait()
            except BaseException:
                process.terminate()
                try:
                    process.wait(END_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                raise
            said.seek(max(0, said.seek(0, 2) - 4096))
            lines = said.read().decode(errors="replace").split("\n")
        return code, next((line.strip() for line in reversed(lines) if line.strip()), "")[:REASON_LETTERS]
