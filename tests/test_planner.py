"""What a plan says, and that a survey of a part of an archive knows how sure it is."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numbered_video
import pytest
from deltalake import DeltaTable, write_deltalake

from halsted_ray.cli import main
from halsted_ray.errors import ResourceError, UsageError
from halsted_ray.maps.publishing import publish, publish_videos
from halsted_ray.maps.reading import read_segments
from halsted_ray.maps.run_profile import RunProfile, write_profile
from halsted_ray.maps.staging import SegmentResult, Staging
from halsted_ray.maps.table_schemas import ArchiveFile, Provenance
from halsted_ray.model.encoder import Encoder
from halsted_ray.planning import measure
from halsted_ray.planning.planner import PlanSetting, plan, typical_hour
from halsted_ray.planning.rates import DERIVED, MEASURED, Rates, gpu_name
from halsted_ray.planning.survey import Survey, survey
from halsted_ray.records import Video, WindowSpec
from halsted_ray.video.windows import segments

RATES = Rates.load()
HOUR = typical_hour()


def planned(hours: float = 100, **setting):
    return plan([HOUR], round(hours), hours * 3600, RATES, PlanSetting(**setting))


def test_the_cores_it_names_keep_a_gpu_busy_and_fewer_do_not():
    found = planned(gpus=2)
    assert found.bottleneck == "encode and tag" and found.stages_s["decode"] < found.stages_s["encode and tag"]
    fewer = planned(gpus=2, cores=found.cores // 2)
    assert fewer.bottleneck == "decode" and fewer.wall_s > 1.5 * found.wall_s
    at_work_s = found.wall_s - RATES.gpu_start_s
    assert planned(gpus=4).wall_s - RATES.gpu_start_s == pytest.approx(at_work_s / 2, rel=0.1)


def test_cost_is_hours_by_price():
    found = planned(gpus=2, price_per_gpu_hour=3.0, price_per_core_hour=0.05)
    assert found.gpu_hours == pytest.approx(2 * found.wall_s / 3600)
    assert found.cost == pytest.approx(3.0 * found.gpu_hours + 0.05 * found.core_hours)
    assert planned(gpus=2).cost == 0


def test_twice_the_archive_takes_twice_the_time_and_the_same_memory():
    one, two = planned(100), planned(200)
    assert two.wall_s - RATES.gpu_start_s == pytest.approx(2 * (one.wall_s - RATES.gpu_start_s), rel=0.01)
    assert (two.segments, two.read_bytes) == (2 * one.segments, 2 * one.read_bytes)
    assert two.memory_mb == one.memory_mb


def test_a_gpu_that_was_not_measured_is_an_estimate():
    assert planned(gpus=1).encode_rate.source == DERIVED
    assert RATES.encoding("giant", "H200", 0.4).clips_per_s == pytest.approx(0.4 * 989 / 5.09)
    assert RATES.encoding("tiny", "cpu", 0.4).source == MEASURED
    with pytest.raises(UsageError, match="'H900'.*H200"):
        planned(gpu="H900")
    with pytest.raises(UsageError, match="'huge'.*giant"):
        planned(preset="huge")


def test_flops_are_those_of_the_presets():
    from halsted_ray.model.encoder import PRESETS

    assert set(RATES.presets) == {*PRESETS, "random:tiny"}
    for encoder in (Encoder.load("tiny"), Encoder.create("tiny", 0)):  # two networks, one with twice the tokens
        known = RATES.presets[encoder.size_name]
        assert known["tflop"] == pytest.approx(encoder.flops_per_clip / 1e12, rel=0.01)
        assert known["parameters_m"] == pytest.approx(encoder.parameters / 1e6, rel=0.02)
        assert (known["dim"], known["image_size"]) == (encoder.dim, encoder.image_size[0])
    for name, preset in PRESETS.items():
        if name == "tiny":
            continue
        known = RATES.presets[name]
        assert (known["dim"], known["image_size"]) == (preset["hidden_size"], preset["image_size"])
        tokens = (preset["image_size"] // preset["patch_size"]) ** 2 * 8
        layer = 4 * preset["hidden_size"] ** 2 + 2 * preset["hidden_size"] * preset["intermediate_size"]
        flop = (2 * tokens * layer + 4 * tokens**2 * preset["hidden_size"]) * preset["num_hidden_layers"]
        assert known["tflop"] == pytest.approx(flop / 1e12, rel=0.01)
        assert known["parameters_m"] == pytest.approx(layer * preset["num_hidden_layers"] / 1e6, rel=0.02)


def test_a_picture_that_was_not_measured_costs_by_its_pixels():
    full, _ = RATES.decode_core_s("h264", 1920, 1080, 1000)
    assert RATES.decode_core_s("h264", 3840, 2160, 1000)[0] == pytest.approx(4 * full)
    assert RATES.decode_core_s("unheard-of", 1920, 1080, 1000)[0] >= full


def test_wrong_settings_are_named():
    for wrong in ({"gpus": -1}, {"cores": 0}, {"looked_at": 1.5}, {"share_of_peak": 0}, {"segment_s": 0}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            planned(**wrong)
    with pytest.raises(ResourceError):
        planned(gpus=8, cores=4)
    with pytest.raises(UsageError, match="nothing to plan"):
        plan([], 3, 0.0, RATES, PlanSetting())


def test_rates_of_a_file_go_before_those_that_ship(tmp_path):
    own = tmp_path / "rates.json"
    own.write_text(
        json.dumps(
            {"encode": [{"preset": "giant", "device": "H200", "clips_per_s": 90, "hardware": "ours"}], "start_s": 30}
        )
    )
    rates = Rates.load(str(own))
    assert rates.encoding("giant", "H200", 0.4).clips_per_s == 90 and rates.start_s == 30
    assert rates.decode == RATES.decode
    own.write_text('{"decod": []}')
    with pytest.raises(UsageError, match="decod"):
        Rates.load(str(own))
    with pytest.raises(UsageError, match="nowhere"):
        Rates.load(str(tmp_path / "nowhere.json"))


def test_rates_of_an_earlier_run(tmp_path):
    from maps import write_maps

    write_maps(str(tmp_path))
    with pytest.raises(UsageError, match="no run has decoded"):
        Rates.load(str(tmp_path))


def run_to(out: str, device: str = "cpu", size: str = "base", videos: Sequence[Video] = (HOUR,)) -> None:
    """Maps of whole videos in segments of a minute, each of which took 6 s to decode, 3 s to encode 30 windows, and
    0.5 s to tag them and 20 more."""
    staging = Staging(out, "recipe")
    planned = {video.video_id: segments(video, WindowSpec(), 60.0, "recipe") for video in videos}
    for segment in chain(*planned.values()):
        seconds = {"decode": 6.0, "encode": 3.0, "tag": 0.5}
        staging.write(SegmentResult(segment, [], [], "run", 30, 20, seconds, "f" * 16 if size else "", size, device))
    publish_videos(out, [ArchiveFile(video, "s") for video in videos])
    publish(out, staging, planned, Provenance("run", "recipe", ("macro",), "m", "1", "", "t", "0"))


def test_the_rate_of_a_run_is_its_encoder_s_alone(tmp_path):
    run_to(str(tmp_path), "cpu", "base")
    rates = Rates.load(str(tmp_path))
    own = rates.encoding("base", "cpu", 0.4)
    assert (own.clips_per_s, own.source) == (10.0, MEASURED)
    for preset in ("tiny", "large", "giant"):
        assert rates.encoding(preset, "cpu", 0.4) != replace(own, preset=preset)
    assert rates.encoding("tiny", "cpu", 0.4) == RATES.encoding("tiny", "cpu", 0.4)
    estimate = rates.encoding("giant", "cpu", 0.4)
    assert estimate.source == DERIVED and estimate.clips_per_s == pytest.approx(10 * 0.36 / 5.09)
    # 100 windows a second of a model on vectors of 768, so 16 times as many on the tiny encoder's of 192.
    assert rates.tag_windows_per_core_s == pytest.approx(100 * 16)


def test_a_run_on_gpus_says_nothing_about_cores(tmp_path):
    run_to(str(tmp_path), "NVIDIA A100-SXM4-80GB", "giant")
    rates = Rates.load(str(tmp_path))
    assert (
        rates.encoding("giant", "A100", 0.4).clips_per_s == 10
        and rates.encoding("giant", "A100", 0.4).source == MEASURED
    )
    assert rates.encoding("giant", "H100", 0.4) == RATES.encoding("giant", "H100", 0.4)
    assert rates.encoding("giant", "cpu", 0.4) == RATES.encoding("giant", "cpu", 0.4)
    assert rates.tag_windows_per_core_s == RATES.tag_windows_per_core_s


@pytest.mark.parametrize("device, known", [("NVIDIA H100 80GB HBM3", 0.6), ("cpu", None)])
def test_the_useful_share_of_batches_is_that_of_an_earlier_run_on_gpus(tmp_path, device, known):
    run_to(str(tmp_path), device, "giant")
    profile = RunProfile("run", 60, 3600.0, 60.0, {}, encoding={"clips": 900, "computed": 1500, "useful_share": 0.6})
    write_profile(str(tmp_path), profile)
    rates = Rates.load(str(tmp_path))
    assert rates.useful_share == known
    planned_now = plan([HOUR], 100, 360_000.0, rates, PlanSetting(gpu="H100"))
    assert planned_now.useful_share == (known or pytest.approx(1, abs=0.03))


def test_every_kind_of_picture_has_its_own_rate(tmp_path):
    small = replace(HOUR, video_id="small", uri="/archive/small.mp4", codec="hevc", width=640, height=360, fps=50.0)
    run_to(str(tmp_path), videos=(HOUR, small))
    rates = {(rate.codec, rate.width): rate.frames_per_core_s for rate in Rates.load(str(tmp_path)).decode}
    assert rates == {("h264", 1920): 300.0, ("hevc", 640): 500.0}


def test_maps_that_do_not_say_what_encoded_them_give_the_rates_of_decoding(tmp_path):
    """Tables of before these columns were: they open, say what they know, and take new rows."""
    now, before = str(tmp_path / "now"), str(tmp_path / "before")
    run_to(now)
    added = ["encoder", "encoder_size", "device"]
    for name in ("videos", "segments", "timeline"):
        table = DeltaTable(f"{now}/{name}").to_pyarrow_table()
        write_deltalake(
            f"{before}/{name}", table.drop_columns([column for column in added if column in table.schema.names])
        )
    assert "device" not in DeltaTable(f"{before}/segments").to_pyarrow_table().schema.names
    assert set(read_segments(before, ["device"])["device"].to_pylist()) == {None}
    rates = Rates.load(before)
    assert [rate.frames_per_core_s for rate in rates.decode] == [300.0]
    assert rates.encode == RATES.encode and rates.tag_windows_per_core_s == RATES.tag_windows_per_core_s
    other = replace(HOUR, video_id="other", uri="/archive/other.mp4")
    run_to(before, videos=(other,))
    known = {row["video_id"]: row["device"] for row in read_segments(before, ["video_id", "device"]).to_pylist()}
    assert known == {"typical": None, "other": "cpu"}
    assert Rates.load(before).encoding("base", "cpu", 0.4).clips_per_s == 10


def test_measuring_tiny_measures_the_encoder_that_ships(monkeypatch):
    seen = []
    encode = Encoder.encode
    monkeypatch.setattr(Encoder, "encode", lambda self, clips: (seen.append(self.fingerprint), encode(self, clips))[1])
    assert measure._measured_encoding("tiny", "cpu", "here").preset == "tiny"
    assert set(seen) == {Encoder.load("tiny").fingerprint}
    seen.clear()
    assert measure._measured_encoding("random:tiny", "cpu", "here").preset == "random:tiny"
    assert set(seen) == {Encoder.create("tiny", 0).fingerprint}


@pytest.mark.parametrize(
    "driver_says, name",
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA L40S", "L40S"),
        ("Tesla T4", "T4"),
        ("NVIDIA GeForce RTX 4090", "GeForce RTX 4090"),
        ("cpu", "cpu"),
    ],
)
def test_a_gpu_is_known_by_the_name_that_plan_takes(driver_says, name):
    assert gpu_name(driver_says, RATES.gpus) == name


def entry(length_s: float, code: str = "") -> ArchiveFile:
    return ArchiveFile(Video("v", "/archive/v.mp4", 1, length_s, 640, 360, 25.0, "h264"), "", code)


def test_a_part_of_an_archive_is_told_with_an_interval():
    whole = Survey(3, (entry(10), entry(20), entry(0, "unreadable")))
    assert whole.video_s() == (30, 30, 30) and len(whole.mapped) == 2
    part = Survey(1000, tuple(entry(length_s) for length_s in (100, 200) * 50))
    found_s, least_s, most_s = part.video_s()
    assert found_s == 150_000 and least_s < found_s < most_s
    assert most_s - found_s == pytest.approx(1.96 * 1000 * 50.25 / 10 * 0.9487, rel=0.01)


def test_a_big_archive_is_sampled_and_the_same_files_each_time(tmp_path):
    numbered_video.write(tmp_path / "0.mp4", numbered_video.Recipe(frames=20, rate=10, size=(48, 64)))
    whole = (tmp_path / "0.mp4").read_bytes()
    for n in range(1, 6):
        (tmp_path / f"{n}.mp4").write_bytes(whole + (24).to_bytes(4, "big") + b"free" + b"%016d" % n)
    (tmp_path / "text.mp4").write_text("no video")
    found = survey(str(tmp_path), 4)
    assert found.files == 7 and len(found.probed) == 4
    assert found == survey(str(tmp_path), 4)
    assert survey(str(tmp_path), 100).video_s() == (12.0, 12.0, 12.0)


def test_the_command(capsys):
    assert main(["plan", "--hours", "1000", "--gpus", "4", "--price-per-gpu-hour", "3.5"]) == 0
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines()) <= 80
    for word in ("wall time", "cost", "keep each GPU busy", "derived", "bytes read", "slowest stage"):
        assert word in text
    assert main(["plan", "--hours", "10", "--gpus", "0", "--preset", "tiny", "--cores", "8", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cores"] == 8 and told["cores_per_gpu"] is None and told["video_s"] == 36_000
    assert main(["plan", "--hours", "0.3", "--gpus", "0", "--preset", "tiny", "--cores", "8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["videos"] == 1, "a video that is shorter than an hour"
    assert main(["plan", "--hours", "2.2", "--gpus", "0", "--preset", "tiny", "--cores", "8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["videos"] == 3
    assert main(["plan", "--hours", "0.004", "--price-per-gpu-hour", "0.5"]) == 0
    little = capsys.readouterr().out
    assert "0.004 video-hours" in little and not re.search(
        r"\b0(\.0+)?( \(| GPU-hours| video-hours|$)", little, re.MULTILINE
    )
    assert main(["plan"]) == 2 and "--hours" in capsys.readouterr().err


def test_a_share_of_peak_is_refused_where_the_rate_was_measured(tmp_path, capsys):
    rates = tmp_path / "rates.json"
    rate = {"preset": "giant", "device": "H200", "clips_per_s": 80.0, "hardware": "a machine with an H200"}
    rates.write_text(json.dumps({"encode": [rate]}))
    assert main(["plan", "--hours", "9", "--share-of-peak", "0.3"]) == 0
    assert main(["plan", "--hours", "9", "--rates", str(rates)]) == 0
    capsys.readouterr()
    assert main(["plan", "--hours", "9", "--rates", str(rates), "--share-of-peak", "0.3"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "--share-of-peak needs a GPU whose rate is estimated" in said.err
