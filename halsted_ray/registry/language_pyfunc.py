"""The code of a registered version of a model of video and text, as ``pyfunc.py`` is that of a model of tags.

    mlflow.pyfunc.load_model("models:/halsted-language/1").predict(DataFrame of text)

A sentence's answer is its vector, to compare with those of clips. Registered versions keep their copy for ever.
"""

from typing import Any

import mlflow
import pandas as pd

from halsted_ray.language.sentence_predictor import SentencePredictor


class LanguagePyfunc(mlflow.pyfunc.PythonModel):
    """The MLflow model: a ``SentencePredictor``, made when the version is loaded."""

    def load_context(self, context: Any) -> None:
        """Loads the model and its text encoder. ``context``: MLflow's PythonModelContext."""
        self.predictor = SentencePredictor(context.artifacts["model"], context.model_config.get("encoder"))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Returns a row per sentence of ``model_input``: see ``SentencePredictor``."""
        return self.predictor(model_input)


mlflow.models.set_model(LanguagePyfunc())
