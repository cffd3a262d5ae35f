"""`halsted self-label` as a Ray job, with the same options:

ray job submit --working-dir . -- python jobs/self_label.py --atlas DIR --archive DIR --model REF --out OUT
"""

import sys

from halsted_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["self-label", *sys.argv[1:]]))
