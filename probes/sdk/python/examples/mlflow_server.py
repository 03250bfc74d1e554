"""MLflow's scoring server with the middleware: whole requests, what is around the prediction included.

    MODEL=model uvicorn --app-dir examples --port 8000 mlflow_server:app

`model` is any saved pyfunc model, as mlflow_model.py makes one. Needs: pip install mlflow (or mlflow-skinny and pandas)
uvicorn, and the wheel.
"""

import os

import mlflow
import perfwatch
from mlflow.pyfunc import scoring_server

server = perfwatch.Server("mlflow-http-example")
app = scoring_server.init(mlflow.pyfunc.load_model(os.environ["MODEL"]))
app.add_middleware(perfwatch.ASGIMiddleware, server=server, skip=["/ping", "/health", "/version"])
