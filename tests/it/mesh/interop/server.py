"""The test service of gRPC's interoperability tests, with bytes for messages: what counts is how they travel."""

import json
import threading
from concurrent import futures

import grpc

INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"
UNDER_WAY = []


def greet(context):
    """Sends back the metadata that is to be sent back, and minds that the call is under way."""
    UNDER_WAY.append(1)
    if not context.add_callback(UNDER_WAY.pop):
        UNDER_WAY.pop()
    sent = dict(context.invocation_metadata())
    if INITIAL in sent:
        context.send_initial_metadata([(INITIAL, sent[INITIAL])])
    if TRAILING in sent:
        context.set_trailing_metadata([(TRAILING, sent[TRAILING])])


def answers(request):
    """The messages that a request asks for, by their sizes; or how it asks to fail."""
    wish = json.loads(request.split(b"\0")[0] or "{}")
    return wish.get("sizes", []), wish.get("status")


def finish(context, status):
    if status:
        context.abort(getattr(grpc.StatusCode, status[0]), status[1])


def empty(request, context):
    greet(context)
    return b""


def unary(request, context):
    greet(context)
    sizes, status = answers(request)
    finish(context, status)
    return bytes(sizes[0] if sizes else 0)


def streaming_input(requests, context):
    greet(context)
    return b"%d" % sum(len(request) for request in requests)


def streaming_output(request, context):
    greet(context)
    sizes, status = answers(request)
    yield from (bytes(size) for size in sizes)
    finish(context, status)


def full_duplex(requests, context):
    greet(context)
    for request in requests:
        sizes, status = answers(request)
        yield from (bytes(size) for size in sizes)
        finish(context, status)


calls = {
    "EmptyCall": grpc.unary_unary_rpc_method_handler(empty),
    "UnaryCall": grpc.unary_unary_rpc_method_handler(unary),
    "StreamingInputCall": grpc.stream_unary_rpc_method_handler(streaming_input),
    "StreamingOutputCall": grpc.unary_stream_rpc_method_handler(streaming_output),
    "FullDuplexCall": grpc.stream_stream_rpc_method_handler(full_duplex),
    "UnderWay": grpc.unary_unary_rpc_method_handler(lambda request, context: b"%d" % len(UNDER_WAY)),
}
server = grpc.server(futures.ThreadPoolExecutor(16))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("grpc.testing.TestService", calls)])
server.add_insecure_port("0.0.0.0:10000")
server.start()
threading.Event().wait()
