"""What curl does not do: pipelining, WebSocket, leaving in the middle, gRPC."""

import os
import socket
import sys


def connect():
    return socket.create_connection(("server", 8000), timeout=30)


def answer(stream):
    """The body of one answer with a length."""
    length = 0
    while line := stream.readline().strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return stream.read(length).decode()


def pipeline():
    connection = connect()
    connection.sendall(
        b"GET /echo?1 HTTP/1.1\r\nhost: server:8000\r\n\r\n"
        b"POST /echo?2 HTTP/1.1\r\nhost: server:8000\r\ncontent-length: 3\r\n\r\nabc"
        b"GET /echo?3 HTTP/1.1\r\nhost: server:8000\r\n\r\n")
    stream = connection.makefile("rb")
    for _ in range(3):
        print(answer(stream))


def trailers():
    """Sends trailers of HTTP/1.1 twice, and prints each answer from its body on."""
    connection = connect()
    stream = connection.makefile("rb")
    for _ in range(2):
        connection.sendall(
            b"POST /trailers HTTP/1.1\r\nhost: server:8000\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n"
            b"3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n")
        while stream.readline().strip():
            pass
        parts = []
        while size := int(stream.readline(), 16):
            parts.append(stream.read(size).decode())
            stream.readline()
        while line := stream.readline().strip():
            parts.append(line.decode())
        print(" + ".join(parts))


def websocket():
    connection = connect()
    connection.sendall(
        b"GET /chat HTTP/1.1\r\nhost: server:8000\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    stream = connection.makefile("rb")
    status = stream.readline().split()[1].decode()
    while stream.readline().strip():
        pass
    texts = []
    for text in [b"hello", b"again"]:
        mask = os.urandom(4)
        masked = bytes(b ^ mask[i % 4] for i, b in enumerate(text))
        connection.sendall(bytes([0x81, 0x80 | len(text)]) + mask + masked)
        _, length = stream.read(2)
        texts.append(stream.read(length).decode())
    print(status, ", ".join(texts))


def leave():
    connection = connect()
    connection.sendall(b"GET /endless HTTP/1.1\r\nhost: server:8000\r\n\r\n")
    connection.recv(1000)
    connection.close()
    print("gone")


def grpc_calls():
    import grpc
    channel = grpc.insecure_channel("server:9000", options=[("grpc.max_receive_message_length", 1 << 24)])
    name = "/test.Calls/"
    unary = lambda call: channel.unary_unary(name + call)
    reply, call = unary("Unary").with_call(b"hello", timeout=20)
    trailer = dict(call.trailing_metadata()).get("x-trailer")
    print("unary:", reply.decode())
    print("server:", *[r.decode() for r in channel.unary_stream(name + "Server")(b"3", timeout=20)])
    print("client:", channel.stream_unary(name + "Client")(iter([b"a", b"b", b"c"]), timeout=20).decode())
    print("both:", *[r.decode() for r in channel.stream_stream(name + "Both")(iter([b"a", b"b", b"c"]), timeout=20)])
    print("trailer:", trailer)
    try:
        unary("Fail")(b"", timeout=20)
    except grpc.RpcError as e:
        print("failure:", e.code().name, e.details())
    try:
        unary("Slow")(b"", timeout=0.3)
    except grpc.RpcError as e:
        print("deadline:", e.code().name)
    print("large:", len(unary("Unary")(bytes(3000000), timeout=20)))
    certificate = unary("Caller")(b"", timeout=20).decode()
    print("called by", certificate.rpartition("URI=")[2])


{"pipeline": pipeline, "trailers": trailers, "websocket": websocket, "leave": leave, "grpc": grpc_calls}[sys.argv[1]]()
