"""`halsted map` as a Ray job, with the same options:

ray job submit --working-dir . -- python jobs/map_archive.py ARCHIVE --out OUT --model REF
"""

import sys

from halsted_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["map", *sys.argv[1:]]))
