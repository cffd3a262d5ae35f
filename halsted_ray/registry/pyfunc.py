"""The code of a registered version: MLflow copies this file into the version and runs it on loading. No pickle is used.

    mlflow.pyfunc.load_model("models:/halsted@champion").predict(DataFrame of uri, start_s, stop_s, instruction)

``model_config={"encoder": REF}`` says where the encoder is now, if it has moved since the training. Registered versions
keep their copy for ever, so the name that it imports must stay importable (see ``answers.py``).
"""

from typing import Any

import mlflow
import pandas as pd

from halsted_ray.registry.clip_predictor import ClipPredictor


class HalstedPyfunc(mlflow.pyfunc.PythonModel):
    """The MLflow model: a ``ClipPredictor``, made when the version is loaded."""

    def load_context(self, context: Any) -> None:
        """Loads the model and its encoder. ``context``: MLflow's PythonModelContext."""
        self.predictor = ClipPredictor(context.artifacts["model"], context.model_config.get("encoder"))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Returns a row of predictions per clip of ``model_input``: see ``ClipPredictor``."""
        return self.predictor(model_input)


mlflow.models.set_model(HalstedPyfunc())
