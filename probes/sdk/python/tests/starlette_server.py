"""Streams, and knows nothing of perfwatch but its middleware."""

import sys

import perfwatch
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route


async def stream(request):
    async def words():
        for number in range(7):
            yield f"{number} "

    return StreamingResponse(words())


async def whole(request):
    return PlainTextResponse("well")


server = perfwatch.Server("starlette")
app = Starlette(
    routes=[Route("/stream", stream), Route("/whole", whole), Route("/health", whole)],
    middleware=[Middleware(perfwatch.ASGIMiddleware, server=server, skip=["/health"], tokens=True)],
)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
