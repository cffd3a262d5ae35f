"""`halsted registry promote` as a Ray job, with the same options:

ray job submit --working-dir . -- python jobs/promote.py CANDIDATE --atlas DIR --deploy
"""

import sys

from halsted_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["registry", "promote", *sys.argv[1:]]))
