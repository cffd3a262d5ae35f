"""``python -m serve``: the commands of ``halsted_ray.cli.serve``."""

import sys

from halsted_ray.cli.serve import main

sys.exit(main())
