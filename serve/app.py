"""What Ray Serve imports: ``serve run serve.app:app`` or ``serve deploy serve/config.yaml``."""

from halsted_ray.service.deployments import app

__all__ = ["app"]
