"""What the planner says of GPUs: each rate with its source, NVDEC beside cores, batches, deadlines, prices."""

from __future__ import annotations

import heapq
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slow_encoder import SlowEncoder

from halsted_ray.cli import main
from halsted_ray.embedding.batching import BatchedEncoder
from halsted_ray.errors import UsageError
from halsted_ray.model.encoder import PRESETS, Encoder
from halsted_ray.planning.batches import requests, useful_share
from halsted_ray.planning.decoding import DecodeWork, actors_for, decode_s
from halsted_ray.planning.planner import PlanSetting, plan, plan_for_deadline, typical_hour
from halsted_ray.planning.rates import DERIVED, MEASURED, SHARE_OF_PEAK, Rates
from halsted_ray.video.nvdec_slots import ENGINES

RATES = Rates.load()
HOUR = typical_hour()
sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from gpu_table import CARDS, PAGE, tables  # noqa: E402  beside the benchmarks


def planned(hours: float = 1000, **setting):
    return plan([HOUR], round(hours), hours * 3600, RATES, PlanSetting(**setting))


def test_every_rate_that_ships_says_where_it_is_from():
    for rate in (*RATES.decode, *RATES.encode):
        assert rate.source in (MEASURED, DERIVED) and len(rate.hardware) > 10, rate
    on_gpus = [(rate.preset, rate.device, rate.precision) for rate in RATES.encode if rate.device != "cpu"]
    assert on_gpus == [("giant", "H100", "bf16"), ("giant", "H100", "fp8")]
    assert set(CARDS) <= set(RATES.gpus)
    for name, gpu in RATES.gpus.items():
        assert gpu.nvdec_generation in RATES.nvdec.frames_per_engine_s, name
        assert (gpu.price_per_hour is None) == (not gpu.price_source), name
    assert RATES.prices.read_on and "NVDEC application note" in RATES.nvdec.reference


def test_only_what_was_measured_on_a_gpu_is_called_measured():
    for card in CARDS:
        for preset in PRESETS:
            found = RATES.encoding(preset, card, SHARE_OF_PEAK)
            assert (found.source == MEASURED) == ((preset, card) == ("giant", "H100"))
            if found.source == DERIVED:
                assert f"50% of the {card}'s" in found.hardware and "TFLOP per clip" in found.hardware
    # The share of the peak that others are derived with is the one that was measured.
    giant = RATES.encoding("giant", "H100", SHARE_OF_PEAK)
    assert giant.clips_per_s * RATES.presets["giant"]["tflop"] / RATES.gpu("H100").bf16_tflops == pytest.approx(
        SHARE_OF_PEAK, abs=0.005
    )


def test_what_is_called_measured_on_an_h100_is_what_was_measured():
    found = json.loads((PAGE.parents[2] / "benchmarks/results/gpu/encoder-H100.json").read_text())
    by_batch = found["clips_per_s_by_batch"]
    said = RATES.encoding("giant", "H100", SHARE_OF_PEAK).clips_per_s
    assert all(said == pytest.approx(by_batch[batch], rel=0.005) for batch in ("16", "64"))
    assert RATES.encoding("giant", "H100", SHARE_OF_PEAK, "fp8").clips_per_s == pytest.approx(
        found["fp8_compiled_clips_per_s_by_batch"]["16"], rel=0.005
    )
    frames = found["nvdec_frames_per_s_of_7_sessions"]
    published = RATES.nvdec.frames_per_engine_s["Turing"]["h264"] * RATES.gpu("H100").nvdec_engines
    assert RATES.nvdec.reached == pytest.approx(frames["exact"] / published, abs=0.001)
    assert RATES.nvdec.frames_share["reference"] == pytest.approx(frames["exact"] / frames["reference"], abs=0.01)


def test_plans_count_the_engines_that_runs_use():
    for name, gpu in RATES.gpus.items():
        assert gpu.nvdec_engines == ENGINES.get(name, 1), f"{name}: an unlisted chip counts as having one"


def test_linear_layers_are_those_of_the_presets():
    for name, preset in PRESETS.items():
        if name == "tiny":
            continue
        tokens = (preset["image_size"] // preset["patch_size"]) ** 2 * 8
        layer = 4 * preset["hidden_size"] ** 2 + 2 * preset["hidden_size"] * preset["intermediate_size"]
        linear = 2 * tokens * layer * preset["num_hidden_layers"] / 1e12
        assert RATES.presets[name]["linear_tflop"] == pytest.approx(linear, rel=0.01)
    for encoder in (Encoder.load("tiny"), Encoder.create("tiny", 0)):
        tokens = encoder.positions.shape[1]
        attention = 4.0 * tokens**2 * encoder.width * encoder.config.num_hidden_layers
        known = RATES.presets[encoder.size_name]["linear_tflop"]
        assert known == pytest.approx((encoder.flops_per_clip - attention) / 1e12, rel=0.02)


def test_fp8_is_as_much_faster_as_on_the_chip_that_was_measured_and_only_where_a_chip_has_it():
    for card in CARDS:
        if not RATES.gpu(card).has_fp8:
            with pytest.raises(UsageError, match=f"{card} has no fp8.*H100"):
                RATES.encoding("giant", card, SHARE_OF_PEAK, "fp8")
            continue
        bf16, fp8 = (RATES.encoding("giant", card, SHARE_OF_PEAK, precision) for precision in ("bf16", "fp8"))
        assert fp8.clips_per_s / bf16.clips_per_s == pytest.approx(114.6 / 97.5)
        assert (fp8.source == MEASURED) == (card == "H100")
        assert card == "H100" or ("times bf16" in fp8.hardware and bf16.hardware in fp8.hardware)
    with pytest.raises(UsageError, match="fp16.*bf16, fp8"):
        RATES.encoding("giant", "H100", SHARE_OF_PEAK, "fp16")


def test_segments_that_are_encoded_alone_waste_what_was_measured():
    """Seen on an H100: a minute that is fully looked at computed 48 clips for 26, one in coarse windows 16 for 2."""
    assert useful_share(2, 12, 1.0, batch=16, in_flight=1) == pytest.approx(26 / 48)
    assert useful_share(2, 12, 0.0, batch=16, in_flight=1) == pytest.approx(2 / 16)


@pytest.mark.parametrize("looked_at", [0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
def test_batches_that_are_filled_from_many_segments_waste_little(looked_at):
    assert 0.97 <= useful_share(2, 12, looked_at) <= 1
    assert useful_share(2, 12, looked_at, in_flight=1) < useful_share(2, 12, looked_at)
    assert useful_share(2, 12, looked_at, batch=1, in_flight=1) == 1, "as on a core"


@pytest.mark.parametrize("threads, looked_at", [(8, 1.0), (8, 0.3), (8, 0.0), (1, 1.0)])
def test_the_useful_share_is_that_of_the_encoder_that_fills_batches(threads, looked_at):
    """Against the real batching of an encoding actor, around an encoder that takes its time like a GPU."""
    encoder = BatchedEncoder(SlowEncoder(batch_s=0.005, micro_batch=16), callers=threads, patience_s=10.0)
    pixels_NHWC = np.zeros((4, 2, 2, 3), np.uint8)

    def encode_segment(number: int) -> None:
        for clips in requests(number, 2, 12, looked_at):
            encoder.encode_frames(pixels_NHWC, np.zeros((clips, 4), np.int64))

    count = 15 * threads
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(encode_segment, range(count)))
    encoder.close()
    said = useful_share(2, 12, looked_at, 16, threads, count)
    assert encoder.figures.useful_share == pytest.approx(said, abs=0.05)


def test_a_gpu_that_computes_padding_takes_longer():
    whole, half = planned(gpu="H100"), planned(gpu="H100", useful_share=0.5)
    assert half.encode_device_s == pytest.approx(2 * whole.encode_device_s, rel=0.01)
    assert planned(gpus=0, cores=8, preset="tiny").useful_share == 1


def simulated_s(segments: list[tuple[float, float]], actors: int, engines: int) -> float:
    """Wall seconds in which actors take one segment after another, in the order in which they lie: (core-seconds,
    engine-seconds) each; 0 engine-seconds where NVDEC can't decode it. An actor without an engine prefers those."""
    waiting = {True: [s for s in segments if s[1]], False: [s for s in segments if not s[1]]}
    free_at = [(0.0, number < engines, number) for number in range(actors)]
    heapq.heapify(free_at)
    end_s = 0.0
    while waiting[True] or waiting[False]:
        at_s, has_engine, number = heapq.heappop(free_at)
        order = (True,) if has_engine else (False, True)
        kind = next((kind for kind in order if waiting[kind]), None)
        if kind is None:
            continue  # nothing is left for an engine
        core_s, engine_s = waiting[kind].pop()
        done_s = at_s + (engine_s if has_engine else core_s)
        end_s = max(end_s, done_s)
        heapq.heappush(free_at, (done_s, has_engine, number))
    return end_s


@given(
    core_s=st.floats(0.5, 20),
    speed=st.floats(0.3, 8),
    actors=st.integers(1, 24),
    engines=st.integers(0, 8),
    count=st.integers(1500, 2500),
    core_only=st.sampled_from([0.0, 0.1, 0.4, 1.0]),
)
def test_hybrid_decoding_takes_what_a_simulation_takes(core_s, speed, actors, engines, count, core_only):
    segments = [(core_s, 0.0 if n < core_only * count else core_s / speed) for n in range(count)]
    if core_only and engines >= actors:
        engines = actors - 1
    of_both = [segment for segment in segments if segment[1]]
    work = DecodeWork(
        core_s=sum(core for core, _ in of_both),
        engine_s=sum(engine for _, engine in of_both),
        core_only_s=core_s * (count - len(of_both)),
        overhead_core_s=0.0,
    )
    said_s = decode_s(work, actors, engines, "auto")
    if not of_both:
        engines = 0  # engines without work leave their actors to the cores
    # The last segment of each actor is all that the formula leaves out.
    assert said_s == pytest.approx(simulated_s(segments, actors, engines), abs=core_s * 1.01 + core_s / speed)


def test_more_of_either_never_takes_longer_and_the_least_that_is_enough_is_enough():
    work = DecodeWork(core_s=1000.0, engine_s=400.0, core_only_s=100.0, overhead_core_s=10.0)
    for reader in ("pyav", "auto"):
        times_s = [decode_s(work, actors, 2, reader) for actors in range(3, 40)]
        assert times_s == sorted(times_s, reverse=True)
        for within_s in (20.0, 60.0, 200.0):
            enough = actors_for(work, within_s, 2, reader)
            assert (
                decode_s(work, enough, 2, reader) <= within_s * 1.001 < decode_s(work, 0.97 * enough, 2, reader) * 1.1
            )
    assert decode_s(work, 8, 2, "auto") < min(decode_s(work, 8, 2, "pyav"), decode_s(work, 8, 2, "nvdec"))
    assert actors_for(work, 100.0, 2, "nvdec") == float("inf"), "two engines take 200 s"


def test_nvdec_saves_cores_and_never_costs_any():
    for card in CARDS:
        for fidelity in ("exact", "reference"):
            found = planned(gpu=card, fidelity=fidelity).cores_per_gpu_by_reader
            assert found["auto"] < found["pyav"], card
    assert planned(gpu="H100").cores_per_gpu == planned(gpu="H100").cores_per_gpu_by_reader["pyav"]


def test_what_nvdec_can_not_decode_stays_on_the_cores():
    mpeg2 = replace(HOUR, codec="mpeg2video")
    found = plan([mpeg2], 100, 360_000, RATES, PlanSetting(gpu="H100", reader="auto"))
    assert found.cores_per_gpu_by_reader["auto"] == pytest.approx(found.cores_per_gpu_by_reader["pyav"])


def test_the_plan_says_what_limits_it():
    assert planned(gpu="H100").limited_by == "encoder"
    assert planned(gpu="H100", cores=16).limited_by == "cores"
    assert planned(gpu="H100", cores=16, reader="nvdec").limited_by == "NVDEC"
    assert planned(gpu="H100", cores=16, reader="auto").limited_by == "NVDEC and cores"
    slow = planned(gpu="H100", network_gbit_s=0.5)
    assert slow.limited_by == "network" and slow.network_gbit_s == pytest.approx(0.5)
    assert planned(gpus=0, cores=8, preset="tiny").limited_by == "cores"
    with pytest.raises(UsageError, match="NVDEC alone never.*--reader auto"):
        planned(gpu="H100", reader="nvdec")


def test_one_vector_per_15_seconds_is_a_clip_per_15_seconds():
    found = planned(hours=100, gpu="H100", window_s=15.0, fidelity="keyframes")
    assert found.clips == 100 * 240
    every = planned(hours=100, gpu="H100", looked_at=1.0)
    assert every.clips == 100 * (120 + 1440)


def test_keyframes_cost_a_core_less_than_all_frames():
    costs = [planned(fidelity=name).decode_core_s for name in ("exact", "reference", "keyframes")]
    assert costs == sorted(costs, reverse=True) and costs[1] > 10 * costs[2]


def deadline(hours: float, deadline_h: float, cores_per_gpu: int | None = None, **setting):
    options = PlanSetting(gpu="H100", **setting)
    return plan_for_deadline([HOUR], round(hours), hours * 3600, RATES, options, deadline_h * 3600, cores_per_gpu)


@pytest.mark.parametrize("cores_per_gpu", [None, 16])
def test_a_deadline_gives_the_fewest_gpus_that_meet_it(cores_per_gpu):
    found, setting = deadline(50_000, 24.0, cores_per_gpu)
    assert found.wall_s <= 24 * 3600 and found.gpus == setting.gpus > 2
    fewer = replace(setting, gpus=found.gpus - 1, cores=cores_per_gpu and cores_per_gpu * (found.gpus - 1))
    assert plan([HOUR], 50_000, 50_000 * 3600, RATES, fewer).wall_s > 24 * 3600
    assert deadline(1, 24.0)[0].gpus == 1


def test_a_deadline_that_no_number_of_gpus_meets_is_refused_with_the_reason():
    with pytest.raises(UsageError, match="limited by network.*faster network"):
        deadline(50_000, 24.0, network_gbit_s=1.0)
    with pytest.raises(UsageError, match="no number of GPUs.*later deadline"):
        deadline(50_000, 0.01)


def test_wrong_settings_of_gpus_are_named():
    wrongs = ({"reader": "ffmpeg"}, {"fidelity": "best"}, {"window_s": 0.0}, {"useful_share": 1.5})
    for wrong in (*wrongs, {"network_gbit_s": -1.0}, {"precision": "int4"}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            planned(**wrong)


def said(capsys, *words: str) -> str:
    assert main(["plan", "--hours", "5000", *words]) == 0
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines()) <= 80
    return " ".join(text.split())


def test_the_command_says_what_each_number_rests_on(capsys):
    text = said(capsys, "--gpu", "H100")
    assert "measured (one H100 of 80 GB" in text and "derived: 27% of the published 771 per engine" in text
    assert "an example, 3.49 USD per hour" in text and "read 2026-09-25" in text
    text = said(capsys, "--gpu", "L4", "--precision", "fp8", "--reader", "auto")
    assert "derived (1.18 times bf16" in text and "no price is known; give --price-per-gpu-hour" in text
    text = said(capsys, "--gpu", "H100", "--window", "15", "--fidelity", "keyframes", "--price-per-gpu-hour", "2")
    assert "one window of 15 s after another" in text and "10.6 times that at fidelity keyframes" in text
    assert "an example" not in text and "USD" not in text
    text = said(capsys, "--gpu", "H100", "--cores-per-gpu", "16", "--reader", "auto", "--useful-share", "0.6")
    assert "limited by NVDEC and cores" in text and "60% of the clips that a GPU computes are needed, as given" in text


def test_the_command_finds_the_gpus_of_a_deadline(capsys):
    assert main(["plan", "--hours", "50000", "--gpu", "H100", "--deadline", "24", "--json"]) == 0
    told = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert told["gpus"] == told["setting"]["gpus"] > 2 and told["wall_s"] <= 24 * 3600
    assert told["cores_per_gpu_by_reader"]["nvdec"] is None
    with pytest.raises(SystemExit, match="2"):
        main(["plan", "--hours", "9", "--deadline", "1", "--gpus", "2"])


@pytest.mark.parametrize("words", [["--reader", "nvdec"], ["--precision", "fp8"], ["--useful-share", "0.9"]])
def test_an_option_of_gpus_is_refused_without_them(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["plan", "--hours", "9", "--gpus", "0", *words])
    assert f"{words[0]}: it needs --gpus 1 or more" in capsys.readouterr().err


def test_windows_of_one_length_have_no_fine_windows_to_look_at(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["plan", "--hours", "9", "--window", "15", "--looked-at", "0.5"])
    assert "--looked-at: it needs the model's windows" in capsys.readouterr().err


def test_the_tables_of_the_page_are_those_of_the_planner():
    assert tables() in PAGE.read_text(encoding="utf-8"), "run python benchmarks/gpu_table.py"
