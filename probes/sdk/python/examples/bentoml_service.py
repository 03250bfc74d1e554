"""A BentoML service with two workers and adaptive batching.

    bentoml serve --working-dir examples --port 8000 bentoml_service:Model

    curl localhost:8000/predict --json '{"text": "cat"}'

Needs: pip install bentoml, and the wheel.
"""

import time

import bentoml
import perfwatch

server = perfwatch.Server("bentoml-example", max_batch_size=4)


@bentoml.service(workers=2)
class Model:
    @bentoml.api
    def predict(self, text: str) -> int:
        with perfwatch.stage("compute"):
            server.dispatch(1)
            time.sleep(0.002)
        if text == "":
            raise ValueError("nothing to measure")
        return len(text)

    @bentoml.api(batchable=True, max_batch_size=4)
    def batch(self, texts: list[str]) -> list[int]:
        """Called for several requests at once, so it is not inside any of them."""
        server.dispatch(len(texts))
        time.sleep(0.002)
        return [len(text) for text in texts]


Model.add_asgi_middleware(perfwatch.ASGIMiddleware, server=server, skip=["/livez", "/readyz", "/healthz", "/metrics"])
