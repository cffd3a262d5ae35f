"""The service's entry points; the service itself is ``halsted_ray.service``."""
