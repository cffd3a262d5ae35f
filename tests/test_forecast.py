"""Forecasts of the next action: sequences, n-gram, network, figures on held-out videos, and the command."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import safetensors.torch
from maps import WHOLE
from sutured import write_suturing

from halsted_ray import taxonomy as taxonomies
from halsted_ray.cli import main
from halsted_ray.errors import ModelError, TaxonomyError, UsageError
from halsted_ray.phantom.script import make_script
from halsted_ray.sequences.action_sequences import (
    Action,
    ActionSequence,
    SequenceSource,
    known_tags,
    pieces_of_actions,
    pieces_of_rows,
    read_sequences,
)
from halsted_ray.sequences.forecast_folds import evaluate_forecasts, fold_of_group
from halsted_ray.sequences.forecaster import (
    Forecaster,
    forecast_json,
    load_forecaster,
    moment_of,
    train_forecaster,
)
from halsted_ray.sequences.moments import HORIZONS_S, moments_of, symbols_of
from halsted_ray.sequences.ngram import NGram, witten_bell

ABC = {name: ("action", name) for name in "abcd"}


def sequence(video_id: str, letters: str, each_s: float = 4.0) -> ActionSequence:
    actions = [Action(n * each_s, (n + 1) * each_s, ABC[letter]) for n, letter in enumerate(letters)]
    return ActionSequence(video_id, video_id, pieces_of_actions(actions, ()))


def phantoms(count: int, minutes: float = 4) -> SequenceSource:
    """What an atlas of phantoms says, without drawing them."""
    found = []
    for seed in range(count):
        clips = make_script(seed, minutes * 60).clips(f"v{seed}")
        actions = [
            Action(clip.start_s, clip.stop_s, (tag, clip.tags[tag]))
            for clip in clips
            for tag in ("action", "phase")
            if tag in clip.tags
        ]
        found.append(ActionSequence(f"v{seed}", f"v{seed}", pieces_of_actions(actions, ())))
    return SequenceSource(tuple(found), "atlas", "", ("action", "phase"))


def test_a_gap_an_unknown_span_and_a_long_pause_end_a_sequence():
    def row(start_s, stop_s, category, source="ai", task="micro", tag="action"):
        return {
            "start_s": start_s, "stop_s": stop_s, "task": task, "tag": tag, "category": category, "confidence": 0.5,
            "source": source,
        }  # fmt: skip

    rows = [
        row(0, 5, "a"),
        row(5, 8, "corrupt", "gap", tag="gap"),
        row(8, 9, "b"),
        row(9, 10, "unknown", "unknown", "macro", "unknown"),  # of another task: it says nothing of actions
        row(10, 12, "c"),
        row(50, 52, "d"),
    ]
    found = [[action.symbol[1] for action in piece] for piece in pieces_of_rows(reversed(rows), ("action",))]
    assert found == [["a"], ["b", "c"], ["d"]]


def test_two_annotators_of_one_action_say_it_once():
    twice = [Action(0, 4, ABC["a"]), Action(2, 6, ABC["a"]), Action(6, 8, ABC["b"])]
    assert pieces_of_actions(twice, ()) == ((Action(0, 6, ABC["a"]), Action(6, 8, ABC["b"])),)


def test_nothing_of_a_moment_lies_after_it():
    one = sequence("v", "abcd")
    for moment, outcome in moments_of(one, every_s=1.5):
        assert all(action.start_s < moment.at_s and action.stop_s <= moment.at_s for action in moment.past)
        assert 0 <= moment.elapsed_s < 4
        ahead = [symbol[1] for symbol in (moment.current, *outcome.next) if symbol]
        assert "abcd".endswith("".join(ahead))
        for ahead_s, symbol in zip(HORIZONS_S, outcome.then, strict=True):
            t_s = moment.at_s + ahead_s
            assert symbol == (ABC["abcd"[int(t_s // 4)]] if t_s < 16 else None)


def test_back_off_is_that_of_nltk():
    """Golden values: WittenBellInterpolated(3) of nltk 3.9, whose shortest context is the share of each symbol."""
    text = "abcabdabcacb"
    index = {letter: k for k, letter in enumerate("abcd")}
    counts: dict[tuple[int, ...], Counter[int]] = {}
    for n in range(len(text)):
        for length in (1, 2):
            if n >= length:
                context = tuple(index[letter] for letter in text[n - length : n])
                counts.setdefault(context, Counter())[index[text[n]]] += 1
    base_K = np.array([text.count(letter) / len(text) for letter in "abcd"])
    for context, expected in (
        ("ab", (0.053333, 0.053333, 0.6, 0.293333)),
        ("bc", (0.844444, 0.111111, 0.033333, 0.011111)),
        ("da", (0.055556, 0.805556, 0.125, 0.013889)),
        ("cb", (0.133333, 0.133333, 0.5, 0.233333)),
        ("db", (0.133333, 0.133333, 0.5, 0.233333)),
    ):
        places = tuple(index[letter] for letter in context)
        found_K = witten_bell(counts, [places, places[1:]], 4, base_K)
        assert found_K == pytest.approx(expected, abs=1e-6), context


def test_an_n_gram_forecasts_what_always_follows_and_when():
    sequences = [sequence(f"v{n}", "abcabcabcabc") for n in range(3)]
    sequences.append(sequence("slow", "abcabcabcabc", 40))  # one slow video does not change what is usual
    model = NGram.learn([pair for one in sequences for pair in moments_of(one)], symbols_of(sequences))
    found = model.forecast([moment_of(sequence("new", "ab"), 4.0)])
    assert [model.symbols[k][1] for k in found.next_MHK[0].argmax(1)] == ["c", "a", "b", "c", "a"]
    assert found.begins_MH[0].tolist() == [4, 8, 12, 16, 20]
    assert model.symbols[found.then_MSK[0, HORIZONS_S.index(5.0)].argmax()] == ABC["c"]
    assert found.next_MHK.sum(2) == pytest.approx(1) and found.then_MSK.sum(2) == pytest.approx(1)


def test_the_network_learns_an_order_that_no_n_gram_of_three_can_hold():
    """What follows 'b b b b' depends on the letter before them, four actions back."""
    words = {"a": "abdbdbdc", "c": "cbdbdbda"}
    sequences = []
    for n in range(8):
        rng, letters, letter = np.random.default_rng(n), "", "a"
        for _ in range(8):
            letter = "ac"[rng.integers(2)]
            letters += words[letter]
        sequences.append(sequence(f"v{n}", letters))
    figures = evaluate_forecasts(SequenceSource(tuple(sequences), "atlas", "", ("action",)), folds=2)
    value, low, _ = figures["gru_over_ngram"]
    assert value > 0.02 and low > 0


def test_every_video_is_judged_once_by_a_model_that_did_not_learn_from_its_group():
    folds = fold_of_group(["a", "a", "b", "c", "d"], 2, 0)
    assert sorted(Counter(folds.values()).values()) == [2, 2]
    with pytest.raises(UsageError, match="5 folds over 2 videos or cases; expected 2 to 2"):
        fold_of_group(["a", "b"], 5, 0)
    # Each group has an order of its own, so that only a model that learned from the group itself could know it.
    own = [sequence("v1", "abababab"), sequence("v2", "cdcdcdcd")]
    figures = evaluate_forecasts(SequenceSource(tuple(own), "maps", "", ("action",)), folds=2)
    assert figures["methods"]["ngram"]["actions"]["1"]["top_3"][0] == 0
    assert figures["methods"]["ngram"]["actions"]["1"]["n"] == 14


def test_forecasts_of_phantoms_beat_the_commonest_action():
    """Phases of suturing follow each other in phantoms; actions of dissection come like cards from a deck."""
    figures = evaluate_forecasts(phantoms(6), folds=2)
    methods = figures["methods"]
    for method in ("ngram", "gru"):
        assert methods[method]["actions"]["1"]["top_1"][1] > methods["commonest"]["actions"]["1"]["top_1"][2]
        assert 0 < methods[method]["begins_error_s"][0] < 10  # actions of phantoms last 5 to 20 s
    assert methods["goes on"]["seconds"]["2"]["top_1"][0] > methods["goes on"]["seconds"]["30"]["top_1"][0]


@pytest.mark.parametrize("method", ["gru", "ngram"])
def test_a_saved_forecaster_says_the_same(method, tmp_path):
    forecaster = train_forecaster(phantoms(3, 2), method)
    forecaster.save(str(tmp_path / "own"))
    loaded = load_forecaster(str(tmp_path / "own"))
    moment = moment_of(phantoms(1).sequences[0], 60.0)
    assert forecast_json(loaded, moment) == forecast_json(forecaster, moment)
    assert forecast_json(loaded, moment)["learned_from_this_video"]
    assert isinstance(loaded, Forecaster) and loaded.symbols == forecaster.symbols


def test_the_same_seed_trains_the_same_network():
    one, two = (train_forecaster(phantoms(2, 2)).model.state_dict() for _ in range(2))
    assert all((one[name] == two[name]).all() for name in one)


def test_no_network_is_made_because_a_file_claims_its_size(tmp_path, monkeypatch):
    train_forecaster(phantoms(2, 2)).save(str(tmp_path))
    stated = json.loads((tmp_path / "forecast.json").read_text())
    stated["symbols"] = [["action", f"{n}"] for n in range(9_000)]
    (tmp_path / "forecast.json").write_text(json.dumps(stated))
    made = []
    monkeypatch.setattr("halsted_ray.sequences.forecaster.RecurrentForecaster", lambda symbols: made.append(symbols))
    with pytest.raises(ModelError, match="holds no forecaster"):
        load_forecaster(str(tmp_path))
    assert not made


def test_a_folder_that_is_no_forecaster_is_refused(tmp_path):
    with pytest.raises(ModelError, match="can't be read"):
        load_forecaster(str(tmp_path / "none"))
    train_forecaster(phantoms(2, 2)).save(str(tmp_path))
    stated = json.loads((tmp_path / "forecast.json").read_text())
    for wrong in (
        {"kind": "other"},
        {"symbols": []},
        {"symbols": 3},
        {"method": "ngram"},
    ):
        (tmp_path / "forecast.json").write_text(json.dumps(stated | wrong))
        with pytest.raises(ModelError):
            load_forecaster(str(tmp_path))
    (tmp_path / "forecast.json").write_text(json.dumps(stated))
    (tmp_path / "forecast.safetensors").write_bytes(safetensors.torch.save({}))
    with pytest.raises(ModelError, match="holds no forecaster"):
        load_forecaster(str(tmp_path))


def test_a_place_without_actions_says_what_to_give(tmp_path):
    with pytest.raises(UsageError, match="neither maps nor an atlas"):
        read_sequences(str(tmp_path))
    write_suturing(str(tmp_path / "out"))
    with pytest.raises(UsageError, match="no row at .* has a tag of action"):
        read_sequences(str(tmp_path / "out"), ("action",))
    with pytest.raises(TaxonomyError, match="did you mean 'action'"):
        known_tags(("actoin",), taxonomies.load())
    with pytest.raises(UsageError, match="nothing is known of what is done at 99 s"):
        moment_of(sequence("v", "ab"), 99)


def test_the_command_trains_evaluates_and_forecasts(tmp_path, capsys):
    out, folder = str(tmp_path / "out"), str(tmp_path / "forecast")
    write_suturing(out)
    assert main(["forecast", "train", out, "--to", folder, "--method", "ngram"]) == 0
    assert "n-gram learned from 5 actions of 3 kinds in 1 video (maps)" in capsys.readouterr().out
    assert main(["forecast", "next", out, WHOLE[:6], "--with", folder, "--at", "16"]) == 0
    said = capsys.readouterr().out
    assert f"{WHOLE} at 0:16: Withdrawal since 1.0 s" in said and "may know it by heart" in said
    assert main(["forecast", "next", out, WHOLE, "--with", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["current"]["category"] == "Driving"
    assert main(["forecast", "evaluate", out]) == 2  # one video shows actions: none can be held out
    assert "expected 2 to 2 folds" in capsys.readouterr().err
