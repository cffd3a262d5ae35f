"""``python -m halsted_ray.cli``: the command ``halsted`` where it is not on the PATH."""

import sys

from halsted_ray.cli import main

sys.exit(main())
