"""The layouts of published data sets, one file each, ending in its ``LAYOUT``."""
