"""A FastAPI model server.

    python examples/fastapi_server.py 8000

    curl localhost:8000/predict/cat

Needs: pip install fastapi uvicorn, and the wheel. Several workers: uvicorn --app-dir examples --workers 2 fastapi_server:app
"""

import asyncio
import sys

import perfwatch
import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse

server = perfwatch.Server("fastapi-example", max_batch_size=1)
app = FastAPI()
app.add_middleware(perfwatch.ASGIMiddleware, server=server)


@perfwatch.stage("preprocess")
async def tokenize(text: str) -> list[int]:
    await asyncio.sleep(0.001)
    return [ord(letter) for letter in text]


@perfwatch.cached(server)
async def embed(text: str) -> int:
    tokens = await tokenize(text)
    with perfwatch.stage("compute"):
        server.dispatch(1)
        await asyncio.sleep(0.002)
    return sum(tokens)


@app.get("/predict/{text}")
async def predict(text: str) -> dict[str, int]:
    return {"answer": await embed(text)}


@app.get("/threads/{text}")
def threads(text: str) -> dict[str, int]:
    """Not async: FastAPI runs it in a thread, and the request comes along."""
    with perfwatch.stage("compute"):
        return {"answer": len(text)}


@app.get("/stream/{count}")
async def stream(count: int) -> StreamingResponse:
    async def words():
        with perfwatch.stage("decode"):
            for number in range(count):
                await asyncio.sleep(0.001)
                yield f"{number} "

    return StreamingResponse(perfwatch.tokens(words()))


@app.get("/refuse")
async def refuse() -> None:
    raise HTTPException(503, "the model is not loaded")


@app.get("/break")
async def break_down() -> None:
    raise ValueError("a bug")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000, log_level="warning")
