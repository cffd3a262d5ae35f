import sys

from halsted_ray.cli import main

sys.exit(main())
