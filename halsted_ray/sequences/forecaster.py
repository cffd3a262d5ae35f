"""A trained forecaster: what it learned from, saved to a folder and read back; its forecast for one moment.

forecast.json         what it is: method, tags, symbols, the videos it learned from, the counts of an n-gram
forecast.safetensors  the weights of a network
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.torch
from safetensors import SafetensorError

from halsted_ray.errors import ModelError, UsageError, VideoError
from halsted_ray.records import JsonObject
from halsted_ray.sequences.action_sequences import ActionSequence, SequenceSource, Symbol
from halsted_ray.sequences.moments import HORIZONS, HORIZONS_S, Moment, moment_at, moments_of, symbols_of
from halsted_ray.sequences.ngram import NGram
from halsted_ray.sequences.recurrent import RecurrentForecaster, learn_recurrent
from halsted_ray.storage.files import read_bytes, write_bytes, write_json

METHODS = ("gru", "ngram")
KIND = "halsted-forecast-1"
MOST_SYMBOLS = 10_000


@dataclass(frozen=True)
class Forecaster:
    """``video_ids``: those it learned from. ``learned_from``: ``maps`` or ``atlas``."""

    method: str
    model: NGram | RecurrentForecaster
    tags: tuple[str, ...]
    symbols: tuple[Symbol, ...]
    video_ids: tuple[str, ...]
    learned_from: str
    taxonomy_digest: str

    def save(self, folder: str) -> None:
        """Writes the folder; its ``forecast.json`` comes last, so that a folder with it is whole. Raises
        OutputError."""
        place = folder.rstrip("/")
        stated: JsonObject = {
            "kind": KIND,
            "method": self.method,
            "tags": list(self.tags),
            "symbols": [list(symbol) for symbol in self.symbols],
            "video_ids": list(self.video_ids),
            "learned_from": self.learned_from,
            "taxonomy_digest": self.taxonomy_digest,
        }
        if isinstance(self.model, NGram):
            stated["counts"] = self.model.to_dict()
        else:
            tensors = {name: value.contiguous() for name, value in self.model.state_dict().items()}
            write_bytes(f"{place}/forecast.safetensors", safetensors.torch.save(tensors))
        write_json(f"{place}/forecast.json", stated)


def train_forecaster(source: SequenceSource, method: str = "gru", seed: int = 0) -> Forecaster:
    """Learns from all sequences of ``source``. Raises UsageError for an unknown method."""
    if method not in METHODS:
        raise UsageError(f"unknown method {method!r}; expected one of {', '.join(METHODS)}")
    symbols = symbols_of(source.sequences)
    return Forecaster(
        method,
        learn(source.sequences, symbols, method, seed),
        source.tags,
        symbols,
        tuple(sequence.video_id for sequence in source.sequences),
        source.kind,
        source.taxonomy_digest,
    )


def learn(
    sequences: Sequence[ActionSequence], symbols: tuple[Symbol, ...], method: str, seed: int = 0
) -> NGram | RecurrentForecaster:
    """A model that learned from ``sequences``: ``gru``, ``ngram``, or ``commonest`` (an n-gram of order 0)."""
    if method == "gru":
        return learn_recurrent(sequences, symbols, seed)
    moments = [pair for sequence in sequences for pair in moments_of(sequence)]
    return NGram.learn(moments, symbols, **({"order": 0} if method == "commonest" else {}))


def load_forecaster(folder: str) -> Forecaster:
    """The forecaster that ``Forecaster.save`` wrote to ``folder``. Raises ModelError for anything else."""
    place = folder.rstrip("/")
    try:
        stated: Any = json.loads(read_bytes(f"{place}/forecast.json"))
        if stated["kind"] != KIND:
            raise ModelError(f"{folder!r} is of the kind {stated['kind']!r}; expected {KIND!r}")
        symbols = tuple((str(tag), str(category)) for tag, category in stated["symbols"])
        if not 0 < len(symbols) <= MOST_SYMBOLS or len(set(symbols)) < len(symbols):
            raise ValueError(f"{len(symbols)} symbols")
        model: NGram | RecurrentForecaster
        if stated["method"] == "ngram":
            model = NGram.from_dict(symbols, stated["counts"])
        else:
            tensors = safetensors.torch.load(read_bytes(f"{place}/forecast.safetensors"))
            if len(tensors["embedding.weight"]) != len(symbols) + 2:  # before a network of that size is made
                raise ValueError("other symbols than the network has")
            model = RecurrentForecaster(symbols)
            model.load_state_dict(tensors)
            model.eval()
        return Forecaster(
            str(stated["method"]),
            model,
            tuple(map(str, stated["tags"])),
            symbols,
            tuple(map(str, stated["video_ids"])),
            str(stated["learned_from"]),
            str(stated["taxonomy_digest"]),
        )
    except (OSError, VideoError) as error:
        raise ModelError(
            f"the forecaster {folder!r} can't be read: {error}; give a folder that `halsted forecast train` wrote"
        ) from error
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"{folder!r} holds no forecaster ({type(error).__name__}); give a folder that `halsted forecast train` "
            "wrote"
        ) from error


def moment_of(sequence: ActionSequence, at_s: float | None = None) -> Moment:
    """The moment ``at_s`` of ``sequence``; None: the end of its last action. Raises UsageError where nothing is known
    of what goes on then."""
    if at_s is None:
        piece = sequence.pieces[-1]
        return moment_at(sequence.video_id, piece, len(piece) - 1, piece[-1].stop_s)
    for piece in sequence.pieces:
        if piece[0].start_s <= at_s <= max(action.stop_s for action in piece):
            n = max(n for n, action in enumerate(piece) if action.start_s <= at_s)
            return moment_at(sequence.video_id, piece, n, at_s)
    raise UsageError(
        f"video {sequence.video_id}: nothing is known of what is done at {at_s:g} s, so nothing follows from it; name "
        "a second with a row of " + " or ".join(sorted({action.symbol[0] for action in sequence.actions}))
    )


def forecast_json(forecaster: Forecaster, moment: Moment, most: int = 3) -> JsonObject:
    """The forecast for one moment as JSON values: the ``most`` likely symbols for each horizon."""
    found = forecaster.model.forecast([moment])

    def likely(shares_K: np.ndarray) -> list[JsonObject]:
        order = np.argsort(-shares_K, kind="stable")[:most]
        return [
            {"tag": tag, "category": category, "probability": round(float(shares_K[k]), 4)}
            for k in order
            for tag, category in (forecaster.symbols[k],)
        ]

    return {
        "video_id": moment.video_id,
        "at_s": moment.at_s,
        "current": {"tag": moment.current[0], "category": moment.current[1], "elapsed_s": round(moment.elapsed_s, 3)},
        "method": forecaster.method,
        "learned_from_this_video": moment.video_id in forecaster.video_ids,
        "next": [
            {"actions_ahead": ahead, "begins_in_s": round(float(begins_s), 2), "likely": likely(shares_K)}
            for ahead, begins_s, shares_K in zip(HORIZONS, found.begins_MH[0], found.next_MHK[0], strict=True)
        ],
        "then": [
            {"seconds_ahead": ahead_s, "likely": likely(found.then_MSK[0, s])} for s, ahead_s in enumerate(HORIZONS_S)
        ],
    }
