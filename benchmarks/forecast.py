"""How well the next action of phantoms is forecast. Nothing is drawn: the scripts of phantoms are read as an atlas.

python benchmarks/forecast.py [--videos 24] [--minutes 5]
"""

from __future__ import annotations

import argparse

from halsted_ray.cli.forecast import forecast_text
from halsted_ray.phantom.script import make_script
from halsted_ray.sequences.action_sequences import TAGS, Action, ActionSequence, SequenceSource, pieces_of_actions
from halsted_ray.sequences.forecast_folds import evaluate_forecasts


def script_sequences(videos: int, minutes: float) -> SequenceSource:
    """The actions and phases of ``videos`` scripts, seeds 0 and on."""
    found = []
    for seed in range(videos):
        actions = [
            Action(clip.start_s, clip.stop_s, (tag, clip.tags[tag]))
            for clip in make_script(seed, 60 * minutes).clips(str(seed))
            for tag in TAGS
            if tag in clip.tags
        ]
        found.append(ActionSequence(str(seed), str(seed), pieces_of_actions(actions, ())))
    return SequenceSource(tuple(found), "atlas", "", TAGS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=24)
    parser.add_argument("--minutes", type=float, default=5)
    options = parser.parse_args()
    figures = evaluate_forecasts(script_sequences(options.videos, options.minutes))
    print(forecast_text(figures))
    value, low, high = figures["gru_over_ngram"]
    print(f"\nGRU over n-gram, top-1 of the next action: {value:.3f} [{low:.3f}, {high:.3f}]")
