"""The entry points of the service: ``app.py`` for Ray Serve, ``__main__.py`` for a terminal, ``config.yaml`` for a
cluster. The service itself is ``halsted_ray.service``."""
