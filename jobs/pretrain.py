"""Pretrains the tiny encoder: ``python -m jobs.pretrain OUT [--minutes 50] [--masked-minutes 1.5]``.

The same command with the same OUT goes on where it stopped. The weights are written to OUT/encoder.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys

from halsted_ray.errors import UsageError
from halsted_ray.phantom.training_clips import random_clip
from halsted_ray.training.pretrain import pretrain
from halsted_ray.training.pretrain_recipe import PretrainRecipe


def main(argv: list[str] | None = None) -> int:
    """Parses ``argv``, pretrains, and returns the exit code: 2 for a recipe that can't be used."""
    default = PretrainRecipe()
    parser = argparse.ArgumentParser(description="Pretrain the tiny encoder on phantom clips.")
    parser.add_argument("out", help="folder of the run; a run that is there goes on")
    parser.add_argument(
        "--minutes",
        type=float,
        default=default.minutes,
        help="minutes of training, both stages together (default %(default)s)",
    )
    parser.add_argument(
        "--masked-minutes",
        type=float,
        default=default.masked_minutes,
        help="minutes of them for the masked stage (default %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=default.seed, help="of clips and weights (default %(default)s)")
    parser.add_argument(
        "--workers", type=int, default=default.workers, help="processes that render clips (default %(default)s)"
    )
    parser.add_argument(
        "--threads", type=int, default=default.threads, help="threads of the trainer (default %(default)s)"
    )
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        recipe = PretrainRecipe(
            minutes=given.minutes,
            masked_minutes=given.masked_minutes,
            seed=given.seed,
            workers=given.workers,
            threads=given.threads,
        )
        print(json.dumps(pretrain(recipe, given.out, random_clip), indent=2))
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
