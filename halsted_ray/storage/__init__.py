"""Every way to a location: places, retries, byte ranges, whole files, Delta tables, leases, the store of vectors.

A location is a local path or any fsspec URL (``s3://…``). Credentials and end points come from the environment, as
fsspec and the client libraries read them (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ``FSSPEC_S3_…``).

    locations.py   what a location is: a path on this machine, or a file system and a path on it
    retry.py       one way to wait for a store that is away
    ranges.py      a remote file, read by byte ranges
    files.py       whole files, written so that no reader sees a part
    delta.py       Delta tables at such locations
    lease.py       one writer per place at a time
    vectors.py     the vectors of windows, kept for training and for every later mapping
"""
