"""`halsted embed` as a Ray job, with the same options:

ray job submit --working-dir . -- python jobs/embed.py ARCHIVE --encoder REF --embeddings DIR
"""

import sys

from halsted_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["embed", *sys.argv[1:]]))
