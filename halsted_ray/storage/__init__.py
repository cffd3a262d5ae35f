"""Every way to a location: places, retries, byte ranges, whole files, Delta tables, leases, and the store of vectors.

A location is a local path or any fsspec URL (``s3://…``). Credentials and end points come from the environment, as
fsspec and the client libraries read them (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ``FSSPEC_S3_…``). No other part
of the package opens a location by itself, so that a path, a retry and an error mean the same everywhere.

    locations.py       what a location is: a path on this machine, or a file system and a path on it
    retry.py           how to wait for a store that is away
    ranges.py          a remote file, read by byte ranges
    files.py           whole files: written so that no reader ever sees a part, read with patience
    tree.py            every file below a location, each once, links followed
    delta.py           Delta tables at such locations
    parquet.py         Parquet files of others, within bounds
    lease.py           one run at a time writes to a place
    vector_files.py    files of vectors: what their names say, and what is in them
    vector_listing.py  which files of vectors there are, by few listings
    vectors.py         the vectors of windows, kept for training and for every later mapping

>>> from halsted_ray.storage.files import read_json, write_json
>>> import tempfile; folder = tempfile.mkdtemp()
>>> write_json(f"{folder}/run.json", {"videos": 3})
>>> read_json(f"{folder}/run.json")
{'videos': 3}
"""
