"""Mangled files through inventory and decoding as a run of ``halsted map`` does it, and what is wrong with the outcome.

What must hold for each file:

1. It ends in time. The decoding process keeps within its memory, and ends with no error but the known ones.
2. It is mapped, partial or failed, and what is not mapped has a code and a reason.
3. Each asked time that no gap covers has a picture. The picture was shown at that time or before it, and not longer
   before it than a hole may last. No picture stands still for longer, so no row claims time without a picture.
4. No message holds the file's name.
5. The number of processes and of open files does not grow.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import fsspec
import numpy as np

from fuzz.mangling import Case
from halsted_ray.embedding.decode_stage import DecodeOptions, DecodeStage
from halsted_ray.embedding.stage_schemas import segments_table
from halsted_ray.errors import DecoderKilled, StorageUnavailable
from halsted_ray.mapping import inventory
from halsted_ray.maps.table_schemas import ArchiveFile
from halsted_ray.records import WindowSpec
from halsted_ray.video import probers
from halsted_ray.video.decode_process import DecodeProcess
from halsted_ray.video.frames import Frames
from halsted_ray.video.windows import segments

PATIENT = "Mustermann"
"""Stands in the name of every file, so that it may stand in no message."""
SPEC = WindowSpec(coarse_s=5.0, fine_s=2.5)
SEGMENT_S = 10.0
SIZE = (48, 80)
MEMORY_MB = 512
DEADLINE_S = 20.0
SLOW_S = 8.0
"""Seconds of CPU for one call, after which a file of some kilobytes counts as slow."""
LONGEST_S = 300 * 3600.0
"""A file of some hundred packets that claims to be longer claims time that it can't hold."""
MOST_SEGMENTS = 8
"""Segments of one file that are decoded: the first, the last and some between them."""
HOLE_S, HOLE_STEPS, LONGEST_STILL_S = 2.0, 8, 300.0
SLACK_S = 0.5
"""How far a picture may be older than a hole's limit: frames that nothing refers to are left out."""
PACKET_STEPS = """
import io, sys, av
with av.open(io.BytesIO(sys.stdin.buffer.read())) as container:
    stream = container.streams.video[0]
    packets = [packet for packet in container.demux(stream) if packet.pts is not None]
    times = sorted({float(packet.pts * stream.time_base) for packet in packets})
print(*(after - before for before, after in zip(times, times[1:])))
"""

NOTED = "noted"
"""How the kind of a finding begins that is kept and shown, and that is no fault: the file ended with a reason."""


@dataclass(frozen=True)
class Finding:
    """Something that does not hold for a case. ``kind`` is the same for findings of one cause."""

    number: int
    kind: str
    what: str


@dataclass
class Call:
    """One question to the decoding process, and what came back."""

    times_s: np.ndarray | None
    cpu_s: float
    frames: Frames | None = None
    error: Exception | None = None


@dataclass
class Watched:
    """What the decoding processes of a worker were asked and how they behaved."""

    calls: dict[str, list[Call]] = field(default_factory=lambda: defaultdict(list))
    peak_mb: float = 0.0
    open_files: int = 0
    starts: int = 0


class WatchedProcess(DecodeProcess):
    """The real decoding process. Its user's ``close`` does not end it, since a start costs as much as ten files."""

    def __init__(self, watched: Watched):
        self.ends = False
        super().__init__(memory_mb=MEMORY_MB)
        self.watched = watched

    def close(self) -> None:
        """Ends the process in the middle of an answer that failed (a call holds the lock), or where ``ends`` is set."""
        if self.ends or self._lock.locked():
            super().close()

    def probe_and_index(self, location, **named):
        ask = super().probe_and_index
        return self._watch(location, None, lambda: ask(location, **named | {"deadline_s": DEADLINE_S}))

    def read_frames(self, location, times_s, *words, **named):
        ask = super().read_frames
        return self._watch(location, np.asarray(times_s), lambda: ask(location, times_s, *words, **named))

    def _watch(self, location, times_s, ask):
        before_s, pid = self._cpu_s(), self.pid
        call = Call(times_s, 0.0)
        try:
            answer = ask()
            call.frames = answer if isinstance(answer, Frames) else None
            return answer
        except Exception as error:
            call.error = error
            raise
        finally:
            call.cpu_s = self._cpu_s() - (before_s if self.pid == pid else 0.0)
            self.watched.calls[str(location)].append(call)
            self._look()

    def _cpu_s(self) -> float:
        try:
            words = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()
        except OSError:
            return 0.0
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def _look(self) -> None:
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
            files = len(os.listdir(f"/proc/{self.pid}/fd"))
        except OSError:
            return
        self.watched.peak_mb = max(self.watched.peak_mb, int(status.split("VmHWM:")[1].split()[0]) / 1024)
        self.watched.open_files = max(self.watched.open_files, files)


class Overheard:
    """What this process and its children print to stderr while this is open.

    A pipe and no file, since a decoding process may not write to files.
    """

    def __enter__(self) -> Overheard:
        self._heard = bytearray()
        self._before = os.dup(2)
        self._end, end = os.pipe()
        os.dup2(end, 2)
        os.close(end)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        os.dup2(self._before, 2)
        os.close(self._before)
        self._thread.join(timeout=5)

    def __len__(self) -> int:
        return len(self._heard)

    def since(self, place: int) -> str:
        """What was said since so many bytes were heard."""
        time.sleep(0.05)  # the last words of a process may still be in the pipe
        return self._heard[place:].decode(errors="replace")

    def _listen(self) -> None:
        while piece := os.read(self._end, 1 << 16):
            self._heard += piece
        os.close(self._end)


class Judge:
    """Judges cases one batch after another, with the same decoding processes. ``folder`` is a place of its own.

    ``overheard``: stderr, where the decoding processes report what they did not expect.
    """

    def __init__(self, folder: Path, overheard: Overheard):
        self.folder, self.overheard = folder, overheard
        self.watched = Watched()
        self.states: dict[str, list[int]] = defaultdict(list)
        """State and codes → numbers of the cases that ended so."""
        self._pool: list[WatchedProcess] = []
        self._taken = 0
        (folder / "out").mkdir(parents=True, exist_ok=True)
        options = DecodeOptions(
            str(folder / "out"), "fuzz", SPEC, SIZE, memory_mb=MEMORY_MB, deadline_s=DEADLINE_S, retry_pause_s=0.0
        )
        self.stage = DecodeStage(options, process=lambda memory_mb: WatchedProcess(self.watched))

    def close(self) -> None:
        """Ends the decoding processes."""
        for process in (*self._pool, self.stage.process):
            process.ends = True
            process.close()

    def judge(self, cases: Sequence[Case]) -> list[Finding]:
        """What does not hold for these cases."""
        uris = {self._write(case): case for case in cases}
        try:
            return [finding for found in self._judge(uris) for finding in found]
        finally:
            for uri in uris:
                fs, path = fsspec.url_to_fs(uri)
                fs.rm(path)
            shutil.rmtree(self.folder / "out" / "packet-indexes", ignore_errors=True)

    def _judge(self, uris: dict[str, Case]) -> Iterator[list[Finding]]:
        heard_before = len(self.overheard)
        try:
            with mock.patch.object(probers, "DecodeProcess", self._pooled):
                entries = inventory.take_inventory(list(uris), on_index=self.stage.indexes.put)
        except Exception as error:
            if len(uris) > 1:  # which one was it?
                for uri, case in uris.items():
                    yield from self._judge({uri: case})
                return
            (case,) = uris.values()
            yield [Finding(case.number, f"inventory raises {_kind_of(error)}", _told(error))]
            return
        finally:
            self._taken = 0
        for entry, (uri, case) in zip(entries, uris.items(), strict=True):
            yield self._judge_entry(entry, uri, case)
        if reports := reports_in(self.overheard.since(heard_before)):
            if len(uris) == 1:
                (case,) = uris.values()
                yield [Finding(case.number, f"decoding process fails: {report}", report) for report in reports]
            else:
                suspects = {uri: case for uri, case in uris.items() if self._was_killed(uri)} or uris
                states = {state: list(ended) for state, ended in self.states.items()}
                for uri, case in suspects.items():
                    self.watched.calls.pop(uri, None)
                    yield [f for found in self._judge({uri: case}) for f in found if "process fails" in f.kind]
                self.states.clear()
                self.states.update(states)
        for uri in uris:
            self.watched.calls.pop(uri, None)

    def _judge_entry(self, entry: ArchiveFile, uri: str, case: Case) -> list[Finding]:
        found: list[Finding] = []

        def note(kind: str, what: str) -> None:
            found.append(Finding(case.number, kind, what))

        if entry.copy_of:
            return found
        gaps: list[dict] = []
        if entry.code or entry.reason:
            state = "failed"
            gaps.append({"code": entry.code, "reason": entry.reason, "start_s": 0.0, "stop_s": 1.0})
        else:
            try:
                rows = self._decode(entry)
            except Exception as error:
                note(f"decoding raises {_kind_of(error)}", _told(error))
                return found
            gaps = [gap for row in rows for gap in row["gaps"]]
            nothing = all(row["frames"] is None for row in rows)
            state = "failed" if nothing else "partial" if gaps else "mapped"
            if state == "failed" and rows and not gaps:
                note("failed without a reason", f"{len(rows)} segments without frames and without gaps")
            for kind, what in check_pictures(entry, rows, self.watched.calls[uri]):
                note(kind, what)
        for gap in gaps:
            if not gap["code"] or not gap["reason"] or not gap["start_s"] < gap["stop_s"]:
                note("a gap without a reason", str(gap))
            if gap["code"] == StorageUnavailable.code:
                note("the store is blamed for a file's damage", gap["reason"])
            if PATIENT.lower() in gap["reason"].lower() or str(self.folder) in gap["reason"]:
                note("a message holds the file's name", gap["reason"].replace(str(self.folder), "FOLDER"))
        self.states[f"{state} {'+'.join(sorted({gap['code'] for gap in gaps}))}".strip()].append(case.number)
        for call in self.watched.calls[uri]:
            if call.cpu_s > SLOW_S:
                note("slow", f"{call.cpu_s:.1f} s of CPU for {'frames' if call.times_s is not None else 'a probe'}")
            if isinstance(call.error, DecoderKilled) and call.error.code == "decoder-hung":
                note("hung", f"no answer within {DEADLINE_S:g} s")
            if isinstance(call.error, DecoderKilled) and "killed by" in str(call.error):
                note(f"{NOTED}: libav itself ends by a signal", str(call.error))
        return list({finding.kind: finding for finding in found}.values())

    def _decode(self, entry: ArchiveFile) -> list[dict]:
        video = entry.video
        if video.duration_s > LONGEST_S:
            return []  # ``check_pictures`` says it
        cut = segments(video, SPEC, SEGMENT_S, "fuzz")
        if len(cut) > MOST_SEGMENTS:
            between = np.random.default_rng(len(cut)).choice(len(cut), MOST_SEGMENTS - 5, replace=False)
            cut = [cut[n] for n in sorted({0, 1, 2, len(cut) - 2, len(cut) - 1, *map(int, between)})]
        return self.stage(segments_table(cut)).to_pylist()

    def _write(self, case: Case) -> str:
        """Writes a case's file, every fourth to a store that is read by ranges; its uri."""
        data = case.data()
        name = f"{PATIENT}-{case.number}{case.whole.suffix}"
        if case.number % 4 == 3:
            uri = f"memory://{os.getpid()}/{name}"
            fs, path = fsspec.url_to_fs(uri)
            fs.pipe(path, data)
            return uri
        path = self.folder / name
        path.write_bytes(data)
        return str(path)

    def _pooled(self) -> WatchedProcess:
        if self._taken == len(self._pool):
            self._pool.append(WatchedProcess(self.watched))
        process = self._pool[self._taken]
        self._taken += 1
        return process

    def _was_killed(self, uri: str) -> bool:
        return any(isinstance(call.error, DecoderKilled) for call in self.watched.calls[uri])


def reports_in(text: str) -> set[str]:
    """Where decoding processes ended by errors that they did not expect: "KeyError in probe.py:12"."""
    found = set()
    for part in text.split("halsted decoding process:")[1:]:
        places = re.findall(r'File ".*?halsted_ray/.*?([^/"]+)", line (\d+)', part)
        kind = next((line for line in part.splitlines()[1:] if line and not line.startswith(" ")), "?")
        if kind != "MemoryError" and places:
            found.add(f"{kind} in {':'.join(places[-1])}")
    return found


def check_pictures(entry: ArchiveFile, rows: Sequence[dict], calls: Sequence[Call]) -> Iterator[tuple[str, str]]:
    """(kind, what) of each claim in decoded segments that no picture stands for."""
    if entry.video.duration_s > LONGEST_S:
        yield "claims time it can't hold", f"{entry.video.size_bytes:,} bytes claim {entry.video.duration_s:,.0f} s"
        return
    shown: dict[float, tuple[float, bytes]] = {}
    missing = []
    for call in calls:
        if call.frames is not None and call.times_s is not None:
            missing += getattr(call.frames, "missing", ())
            for time_s, pts_s, image in zip(
                call.times_s.tolist(), call.frames.pts_s.tolist(), call.frames.images_NHWC, strict=True
            ):
                if not np.isnan(pts_s):
                    shown[time_s] = (pts_s, image.tobytes())
    step_s = min(LONGEST_STILL_S, _step_s(sorted({pts_s for pts_s, _ in shown.values()}), entry))
    hole_s = max(HOLE_S, min(HOLE_STEPS * step_s, LONGEST_STILL_S))
    limit_s = hole_s + SLACK_S + 4 * step_s
    still: tuple[float, float, bytes] | None = None  # since when, until when, which picture
    for time_s in _asked(rows, missing):
        if time_s not in shown:
            yield "time without a picture and without a gap", f"nothing was decoded for {time_s:.3f} s"
            return
        pts_s, image = shown[time_s]
        if pts_s > time_s + 1e-3:
            yield "a picture from later", f"{time_s:.3f} s shows the picture of {pts_s:.3f} s"
            return
        if time_s - pts_s > limit_s:
            yield "an old picture", f"{time_s:.3f} s shows the picture of {pts_s:.3f} s, {hole_s:.1f} s are allowed"
            return
        if still is not None and still[2] == image and time_s - still[1] < 1.0:
            still = (still[0], time_s, image)
            if time_s - still[0] > limit_s + hole_s:
                yield "a frozen picture", f"the same picture from {still[0]:.3f} to {time_s:.3f} s"
                return
        else:
            still = (time_s, time_s, image)


def _asked(rows: Sequence[dict], missing: Sequence) -> Iterator[float]:
    """The times of these segments that no gap covers and whose picture is not said to be missing, rising."""
    step_s = SPEC.fine_s / SPEC.frames
    for row in rows:
        if row["frames"] is None:
            continue
        stop_s = min(row["stop_s"], row["duration_s"])
        for number in range(int(np.ceil((stop_s - row["start_s"]) / step_s))):
            time_s = row["start_s"] + number * step_s
            spans = [(gap["start_s"], gap["stop_s"]) for gap in row["gaps"]]
            spans += [(span.start_s, span.stop_s) for span in missing]
            if not any(start_s <= time_s < stop_s for start_s, stop_s in spans):
                yield time_s


def _step_s(times_s: Sequence[float], entry: ArchiveFile) -> float:
    """The median step from frame to frame, as far as it shows. Where one picture is shown, the packets tell, read here
    without the package: a clock that was stretched can put frames further apart than a picture may stand."""
    steps = np.diff(times_s)
    if not len(steps):
        steps = _packet_steps_s(entry.video.uri)
    return float(np.median(steps)) if len(steps) else (1 / entry.video.fps if entry.video.fps > 0 else 0.0)


def _packet_steps_s(uri: str) -> list[float]:
    """The steps between the times of the packets of the first video stream; none where they can't be read. In a process
    of its own, since the file is mangled."""
    try:
        fs, path = fsspec.url_to_fs(uri)
        told = subprocess.run(
            [sys.executable, "-c", PACKET_STEPS], input=fs.cat_file(path), capture_output=True, timeout=20, check=True
        )
        return [float(step) for step in told.stdout.split()]
    except (subprocess.SubprocessError, OSError, ValueError):
        return []


def _kind_of(error: Exception) -> str:
    trace, place = error.__traceback__, "?"
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if "halsted_ray" in name:
            place = f"{Path(name).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} in {place}"


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
