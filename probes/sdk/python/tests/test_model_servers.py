"""Frameworks that are large to install, by the recipes in examples/; what the agent has equals what the client counted."""

import importlib.util
import subprocess
import sys

import pytest
from client import check_stages, drive, equals
from conftest import BIN, EXAMPLES


def needs(module):
    found = importlib.util.find_spec(module) is not None
    return pytest.mark.skipif(not found, reason=f"{module} is not installed; test.sh says why")


def texts(path, count):
    """So many requests with a text, and a tenth as many with an empty one, which the examples fail on."""
    return [(path, {"text": "cat"})] * count + [(path, {"text": ""})] * (count // 10)


@needs("litserve")
def test_litserve(agent, start, port):
    start(EXAMPLES / "litserve_server.py", port)
    answers = drive(port, texts("/predict", 40) + ["/health"] * 5)
    assert answers[200] >= 40
    # Those that wait in one batch with a broken one share its fate, and the example breaks after the batch.
    failed = answers[500]
    seen = agent.wait("litserve-example", lambda seen: seen.ended == 44 and seen.sums["batch.size"] == 44)
    assert equals(seen, 44 - failed, failed), (answers, seen.counts)
    assert failed >= 4
    assert seen.errors == {"500": failed}
    assert seen.values["example.predict"] == seen.counts["dispatches"], "said in the model's process"
    assert len(seen.instances) == 1, "the processes of one parent are one server"
    assert len(seen.pids) >= 2
    check_stages(seen)


@needs("bentoml")
def test_bentoml(agent, start, port):
    start(BIN / "bentoml", "serve", "--working-dir", EXAMPLES, "--port", port, "bentoml_service:Model")
    batches = [("/batch", {"texts": ["cat", "horse"]})] * 40
    answers = drive(port, texts("/predict", 40) + batches + ["/readyz"] * 5)
    assert answers == {200: 40 + 40 + 5, 500: 4}
    seen = agent.wait("bentoml-example", lambda seen: seen.ended == 84 and seen.sums["batch.size"] == 44 + 80)
    assert equals(seen, 80, 4), seen.counts
    assert seen.errors == {"500": 4}
    assert seen.values["stage.duration/compute"] == 44
    assert len(seen.instances) == 1, "workers of one parent are one server"
    check_stages(seen)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A saved MLflow model."""
    path = tmp_path_factory.mktemp("mlflow") / "model"
    subprocess.run([sys.executable, EXAMPLES / "mlflow_model.py", path], check=True, timeout=120, cwd=path.parent)
    return path


def frames(count):
    frame = [{"dataframe_split": {"columns": ["text"], "data": [[text]]}} for text in ("cat", "")]
    return [("/invocations", frame[0])] * count + [("/invocations", frame[1])] * (count // 10)


@needs("mlflow")
def test_an_mlflow_model_tells_of_itself(agent, start, port, model):
    start(BIN / "mlflow", "models", "serve", "-m", model, "--env-manager", "local", "-p", port)
    answers = drive(port, [*frames(40), "/ping"])
    assert answers == {200: 41, 400: 4}, "MLflow answers 400 for what raises in a model"
    seen = agent.wait("mlflow-example", lambda seen: seen.ended == 44)
    assert equals(seen, 40, 4), seen.counts
    assert seen.errors == {"ValueError": 4}
    assert seen.values["stage.duration/compute"] == seen.counts["dispatches"] == 44
    check_stages(seen)


@needs("mlflow")
def test_mlflow_with_the_middleware(agent, start, port, model):
    command = ["-m", "uvicorn", "--app-dir", EXAMPLES, "--port", port, "--log-level", "warning", "mlflow_server:app"]
    start(*command, MODEL=str(model))
    answers = drive(port, [*frames(40), "/ping"])
    assert answers == {200: 41, 400: 4}
    seen = agent.wait("mlflow-http-example", lambda seen: seen.ended == 44)
    assert equals(seen, 44, 0), "an answer of 400 is an answer, and a ping is no request"
    check_stages(seen)
