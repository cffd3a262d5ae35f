"""The code of a version: MLflow copies this file into it and runs it on loading. Nothing is pickled.

    mlflow.pyfunc.load_model("models:/halsted@champion").predict(DataFrame of uri, start_s, stop_s, instruction)

``model_config={"encoder": REF}`` says where the encoder lies, if not where the model was trained.
"""

import mlflow
import pandas as pd

from halsted_ray.registry.clip_predictor import ClipPredictor


class HalstedPyfunc(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.answers = ClipPredictor(context.artifacts["model"], context.model_config.get("encoder"))

    def predict(self, context, model_input: pd.DataFrame, params=None) -> pd.DataFrame:
        return self.answers(model_input)


mlflow.models.set_model(HalstedPyfunc())
