"""`halsted evaluate` as a Ray job, with the same options:

ray job submit --working-dir . -- python jobs/evaluate.py --atlas DIR --out OUT --model REF
"""

import sys

from halsted_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
