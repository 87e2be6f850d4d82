"""The cases of gRPC's interoperability tests, each named as there; a case that holds is told by its name."""

import json
import sys
import time

import grpc

SERVICE = "/grpc.testing.TestService/"
INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"
LIMIT = 30

channel = grpc.insecure_channel("interop:10000")


def wish(sizes=(), status=None, size=0):
    text = json.dumps({"sizes": list(sizes), "status": status}).encode() + b"\0"
    return text + bytes(max(0, size - len(text)))


def one(method, request=b"", **options):
    return channel.unary_unary(SERVICE + method)(request, timeout=LIMIT, wait_for_ready=True, **options)


def failure(call):
    try:
        for _ in call() or []:
            pass
    except grpc.RpcError as error:
        return error
    raise AssertionError("it did not fail")


class Writer:
    """Requests that are given one by one."""

    def __init__(self):
        import queue
        self.queue = queue.Queue()

    def __iter__(self):
        return iter(self.queue.get, None)

    def send(self, request):
        self.queue.put(request)

    def close(self):
        self.queue.put(None)


def duplex(writer, **options):
    options.setdefault("timeout", LIMIT)
    return channel.stream_stream(SERVICE + "FullDuplexCall")(iter(writer), wait_for_ready=True, **options)


def empty_unary():
    assert one("EmptyCall") == b""


def large_unary():
    assert len(one("UnaryCall", wish([314159], size=271828))) == 314159


def client_compressed_unary():
    assert len(one("UnaryCall", wish([314159], size=271828), compression=grpc.Compression.Gzip)) == 314159


def client_streaming():
    sizes = [27182, 8, 1828, 45904]
    call = channel.stream_unary(SERVICE + "StreamingInputCall")
    assert call(iter([bytes(size) for size in sizes]), timeout=LIMIT) == b"74922"


def server_streaming():
    sizes = [31415, 9, 2653, 58979]
    call = channel.unary_stream(SERVICE + "StreamingOutputCall")
    assert [len(answer) for answer in call(wish(sizes), timeout=LIMIT)] == sizes


def ping_pong():
    writer = Writer()
    call = duplex(writer)
    for sent, size in [(27182, 31415), (8, 9), (1828, 2653), (45904, 58979)]:
        writer.send(wish([size], size=sent))
        assert len(next(call)) == size
    writer.close()
    assert list(call) == [] and call.code() == grpc.StatusCode.OK


def empty_stream():
    writer = Writer()
    writer.close()
    call = duplex(writer)
    assert list(call) == [] and call.code() == grpc.StatusCode.OK


def timeout_on_sleeping_server():
    writer = Writer()
    writer.send(wish())
    error = failure(lambda: duplex(writer, timeout=0.001))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error


def until_alone():
    """Waits until the server has no call under way: what is cancelled here ends there, too."""
    while one("UnderWay") != b"0":
        time.sleep(0.05)


def cancel_after_begin():
    writer = Writer()
    call = channel.stream_unary(SERVICE + "StreamingInputCall").future(iter(writer), timeout=LIMIT)
    call.cancel()
    assert call.cancelled() and call.code() == grpc.StatusCode.CANCELLED
    # The server has begun with this one.
    writer = Writer()
    call = channel.stream_unary(SERVICE + "StreamingInputCall").future(
        iter(writer), timeout=LIMIT, metadata=[(INITIAL, "begun")])
    call.initial_metadata()
    call.cancel()
    until_alone()


def cancel_after_first_response():
    writer = Writer()
    call = duplex(writer)
    writer.send(wish([31415], size=27182))
    assert len(next(call)) == 31415
    call.cancel()
    assert failure(lambda: call).code() == grpc.StatusCode.CANCELLED
    until_alone()


def with_status(code, message):
    status = [code, message]
    error = failure(lambda: one("UnaryCall", wish(status=status)))
    assert (error.code().name, error.details()) == (code, message), error
    writer = Writer()
    writer.send(wish(status=status))
    error = failure(lambda: duplex(writer))
    assert (error.code().name, error.details()) == (code, message), error


def status_code_and_message():
    with_status("UNKNOWN", "test status message")


def special_status_message():
    with_status("UNKNOWN", "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n")


def custom_metadata():
    sent = [(INITIAL, "test_initial_metadata_value"), (TRAILING, b"\xab\xab\xab")]
    answer, call = channel.unary_unary(SERVICE + "UnaryCall").with_call(wish([5]), timeout=LIMIT, metadata=sent)
    assert len(answer) == 5
    writer = Writer()
    writer.send(wish([5]))
    writer.close()
    streamed = duplex(writer, metadata=sent)
    assert [len(answer) for answer in streamed] == [5]
    for call in call, streamed:
        assert dict(call.initial_metadata())[INITIAL] == "test_initial_metadata_value"
        assert dict(call.trailing_metadata())[TRAILING] == b"\xab\xab\xab"


def unimplemented_method():
    error = failure(lambda: one("UnimplementedCall"))
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error


def unimplemented_service():
    call = channel.unary_unary("/grpc.testing.UnimplementedService/UnimplementedCall")
    error = failure(lambda: call(b"", timeout=LIMIT))
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error


for case in sys.argv[1:]:
    globals()[case]()
    print(case)
