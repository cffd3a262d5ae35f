"""Versions that were registered by older releases stay loadable."""

from pathlib import Path

import models
import pandas as pd

from halsted_ray.registry.model_registry import Registry
from halsted_ray.registry.tracking import register

OLD_PYFUNC = """
import mlflow
import pandas as pd

from halsted_ray.registry.answers import Answers


class HalstedPyfunc(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.answers = Answers(context.artifacts["model"], context.model_config.get("encoder"))

    def predict(self, context, model_input: pd.DataFrame, params=None) -> pd.DataFrame:
        return self.answers(model_input)


mlflow.models.set_model(HalstedPyfunc())
"""
"""The code inside every version that was registered before ``Answers`` was renamed to ``ClipPredictor``."""


def test_a_version_with_the_old_pyfunc_loads_and_predicts(tmp_path):
    import mlflow

    root = str(tmp_path / "archive")
    models.write_archive(root)
    models.make_model(root, f"{root}/model", "untrained", 0)
    version = register(Registry(f"sqlite:///{tmp_path}/mlflow.db"), f"{root}/model")
    place = Path(version.location.removeprefix("file://"))
    (place / "pyfunc.py").write_text(OLD_PYFUNC)
    clip = {"uri": str(tmp_path / "gone.mp4"), "start_s": 0.0, "stop_s": 2.5, "instruction": "map procedure type"}
    (row,) = mlflow.pyfunc.load_model(str(place)).predict(pd.DataFrame([clip])).to_dict("records")
    assert row["task"] == "macro" and row["error"].startswith("unreadable: ")
