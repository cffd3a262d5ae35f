"""`halsted train` as a Ray job, with the same options:

ray job submit --working-dir . -- python jobs/train.py --atlas DIR --out RUN
"""

import sys

from halsted_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
