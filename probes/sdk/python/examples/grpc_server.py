"""A gRPC model server. Messages are plain bytes, so that no generated code is needed to run it.

    python examples/grpc_server.py 50051

Needs: pip install grpcio, and the wheel.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import perfwatch
import perfwatch.grpc

server = perfwatch.Server("grpc-example", max_batch_size=1)


def predict(message: bytes, context: grpc.ServicerContext) -> bytes:
    with perfwatch.stage("compute"):
        server.dispatch(1)
        time.sleep(0.002)
    if message == b"refuse":
        context.abort(grpc.StatusCode.UNAVAILABLE, "the model is not loaded")
    if message == b"ask":
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such question")
    if message == b"code":
        context.set_code(grpc.StatusCode.INTERNAL)
    return message.upper()


@perfwatch.stage("decode")
def generate(message: bytes, context: grpc.ServicerContext):
    yield from perfwatch.tokens(letters(message))


def letters(message: bytes):
    for letter in message:
        time.sleep(0.001)
        yield bytes([letter])


METHODS = {
    "Predict": grpc.unary_unary_rpc_method_handler(predict),
    "Generate": grpc.unary_stream_rpc_method_handler(generate),
}


def main(port: int) -> None:
    interceptors = [perfwatch.grpc.ServerInterceptor(server)]
    listener = grpc.server(ThreadPoolExecutor(2), interceptors=interceptors)
    listener.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("example.Model", METHODS)])
    listener.add_insecure_port(f"127.0.0.1:{port}")
    listener.start()
    listener.wait_for_termination()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50051)
