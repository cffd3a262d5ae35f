"""``python -m serve``: the same commands as ``halsted serve``."""

import sys

from halsted_ray.cli.serve import main

sys.exit(main())
