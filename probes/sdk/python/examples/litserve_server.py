"""A LitServe model server: HTTP in one process, the model in another, both of one perfwatch server.

    python examples/litserve_server.py 8000

    curl localhost:8000/predict --json '{"text": "cat"}'

Needs: pip install litserve, and the wheel.
"""

import sys
import time

import litserve
import perfwatch

# In every process: LitServe forks those for HTTP, and the model's imports this file.
server = perfwatch.Server("litserve-example", max_batch_size=4)


class Model(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.seconds = server.histogram("example.predict")

    def decode_request(self, request: dict[str, str]) -> str:
        return request["text"]

    def predict(self, texts: list[str]) -> list[int]:
        server.dispatch(len(texts))
        with self.seconds.time():
            time.sleep(0.002)
            return [len(text) for text in texts]

    def encode_response(self, output: int) -> dict[str, int]:
        if output == 0:
            raise ValueError("nothing to measure")
        return {"answer": output}


if __name__ == "__main__":
    # What HTTP sees of a request is one wait for the model.
    middleware = (perfwatch.ASGIMiddleware, {"server": server, "stage": "compute", "skip": ["/health"]})
    litserve.LitServer(Model(max_batch_size=4, batch_timeout=0.01), accelerator="cpu", middlewares=[middleware]).run(
        host="127.0.0.1",
        port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000,
        generate_client_file=False,
    )
