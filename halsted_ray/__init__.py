"""Halsted on Ray: temporal maps of surgical video archives. Research software, not a medical device."""

__version__ = "0.1.0"
