"""``python -m serve``: the same as ``halsted serve``."""

import sys

from halsted_ray.cli import main

sys.exit(main(["serve", *sys.argv[1:]]))
