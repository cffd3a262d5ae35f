"""Which model is in use, where it came from, and who let it in. The only room that imports mlflow.

    references.py   `registry:halsted@champion`          -> name, alias or number
    resolve.py      what a person gives as a model       -> its folder or URL (no mlflow for a plain folder)
    store.py        versions, aliases and the lock       -> MLflow's registry, embedded or on a server
    pyfunc.py       the code that every version carries  -> answers to a table of clips
    answers.py      clips of any videos, instructions    -> tags (what pyfunc.py calls; no mlflow)
    runs.py         a training run                       -> an MLflow run and a version
    gate.py         two evaluations, thresholds          -> a verdict (pure); gate.yaml holds the thresholds
    promote.py      candidate, champion, atlas           -> verdict, aliases; and the way back
    lineage.py      a row of a map                       -> version, run, atlas release, commits

Importing mlflow takes 3 s: nothing here is imported at the top of the command or on workers.
"""

import os

# mlflow reads these when it is imported. A server that is down would be tried for four minutes by default.
for name, value in (
    ("MLFLOW_DISABLE_TELEMETRY", "true"),
    ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
    ("MLFLOW_LOGGING_LEVEL", "WARNING"),
    ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3"),
    ("MLFLOW_HTTP_REQUEST_TIMEOUT", "20"),
    ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),
):
    os.environ.setdefault(name, value)
