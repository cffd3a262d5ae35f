"""The model registry: which model is in use (the champion), where it came from, and who may replace it.

The only room that imports MLflow. A model becomes the champion in three steps:

1. ``tracking.py`` logs a training run and registers its model as a version of the registered model ``halsted``.
2. ``promotion.py`` lets the version and the present champion tag the frozen test videos of an atlas
   (``held_out.py``), compares both with the thresholds in ``gate.yaml`` (``gate.py``), and keeps the verdict as an
   MLflow run.
3. A version that passes gets the alias ``challenger``, or ``champion`` with --deploy. The champion before it becomes
   ``previous_champion``; a rollback swaps the two.

    references.py      `registry:halsted@champion` -> name and alias or number -> the folder of the model (no MLflow)
    model_registry.py  versions, aliases and the lock on aliases, in MLflow's registry (a file or a server)
    tracking.py        a training run -> an MLflow run and a version
    held_out.py        one model on the frozen test videos: predictions, speed, and whether it was trained on them
    gate.py            the results of two models and thresholds -> a verdict; imports no MLflow
    gate.yaml          the thresholds, each with its reason
    promotion.py       candidate, champion and atlas -> verdict and aliases; and the rollback
    lineage.py         a row of a map -> version, training run, atlas release and commits
    clip_predictor.py  a table of clips -> a table of tags; imports no MLflow
    pyfunc.py          the code that MLflow copies into every version; it calls clip_predictor.py
    answers.py         keeps versions loading whose copy of pyfunc.py is older

Importing MLflow takes 3 s, so neither the command line nor a worker imports this room at the top of a file.
"""

import os

# MLflow reads these variables when it is imported. By default it would try a server that is down for four minutes.
for name, value in (
    ("MLFLOW_DISABLE_TELEMETRY", "true"),
    ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
    ("MLFLOW_LOGGING_LEVEL", "WARNING"),
    ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3"),
    ("MLFLOW_HTTP_REQUEST_TIMEOUT", "20"),
    ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),
):
    os.environ.setdefault(name, value)
