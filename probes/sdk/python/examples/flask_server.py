"""A Flask model server under gunicorn, which forks its workers.

    gunicorn --chdir examples --preload -w 2 -b 127.0.0.1:8000 flask_server:app

    curl localhost:8000/predict/cat

Needs: pip install flask gunicorn, and the wheel.
"""

import time

import perfwatch
from flask import Flask, Response, abort

server = perfwatch.Server("flask-example", max_batch_size=1)
app = Flask(__name__)
app.wsgi_app = perfwatch.WSGIMiddleware(app.wsgi_app, server)
letters = server.histogram("example.letters", "{item}")


@app.get("/predict/<text>")
def predict(text: str) -> dict[str, int]:
    letters.record(len(text))
    with perfwatch.stage("compute"):
        server.dispatch(1)
        time.sleep(0.002)
    return {"answer": len(text)}


@app.get("/stream/<int:count>")
def stream(count: int) -> Response:
    def words():
        with perfwatch.stage("decode"):
            for number in range(count):
                yield f"{number} "

    return Response(perfwatch.tokens(words()))


@app.get("/refuse")
def refuse() -> None:
    abort(503)


@app.get("/break")
def break_down() -> None:
    raise ValueError("a bug")
