"""An MLflow model, as code, that says itself how often and how long it predicts: for `mlflow models serve` as it is.

    python examples/mlflow_model.py model && mlflow models serve -m model --env-manager local -p 8000

    curl localhost:8000/invocations --json '{"dataframe_split": {"columns": ["text"], "data": [["cat"]]}}'

Needs: pip install mlflow (or mlflow-skinny and pandas), and the wheel.
"""

import sys

import mlflow
import perfwatch

server = perfwatch.Server("mlflow-example")


class Model(mlflow.pyfunc.PythonModel):
    @perfwatch.handler(server, "compute")
    def predict(self, context, model_input, params=None):
        texts = list(model_input["text"])
        server.dispatch(len(texts))
        if "" in texts:
            raise ValueError("nothing to measure")
        return [len(text) for text in texts]


if __name__ == "__main__":
    mlflow.pyfunc.save_model(sys.argv[1], python_model=__file__)
else:
    mlflow.models.set_model(Model())
