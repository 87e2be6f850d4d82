"""Servers for requests of every shape: HTTP/1.1 at 8000, gRPC at 9000, and one that refuses streams of HTTP/2 at 9001."""

import asyncio
import base64
import hashlib

LEFT = 0
REFUSED = set()


async def head(reader):
    """A head as its lines; None when nothing follows."""
    lines = []
    while True:
        line = await reader.readline()
        if not line:
            return None
        line = line.rstrip(b"\r\n").decode("latin-1")
        if not line and lines:
            return lines
        if line:
            lines.append(line)


async def body(reader, headers):
    """Reads a body; tells its length."""
    if headers.get("transfer-encoding") == "chunked":
        total = 0
        while True:
            size = int((await reader.readline()).split(b";")[0], 16)
            if not size:
                while line := (await reader.readline()).strip():
                    headers["trailer:" + line.decode().split(":")[0].lower()] = line
                return total
            total += len(await exactly(reader, size))
            await reader.readline()
    return await count(reader, int(headers.get("content-length", 0)))


async def exactly(reader, size):
    return await reader.readexactly(size)


async def count(reader, size):
    left = size
    while left:
        left -= len(await reader.readexactly(min(left, 65536)))
    return size


async def http1(reader, writer):
    global LEFT
    try:
        while (lines := await head(reader)) is not None:
            method, path, _ = lines[0].split(" ")
            headers = {}
            for line in lines[1:]:
                name, value = line.split(":", 1)
                headers[name.lower()] = value.strip()
            if headers.get("expect") == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if headers.get("upgrade") == "websocket":
                return await websocket(reader, writer, headers)
            size = await body(reader, headers)
            await answer(writer, method, path, headers, size)
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def answer(writer, method, path, headers, size):
    global LEFT
    parts = path.split("/")
    if parts[1] == "status":
        writer.write(f"HTTP/1.1 {parts[2]} Status\r\n\r\n".encode())
    elif parts[1] == "bytes":
        left = int(parts[2])
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {left}\r\n\r\n".encode())
        while left:
            piece = min(left, 65536)
            writer.write(bytes(piece))
            await writer.drain()
            left -= piece
    elif parts[1] == "chunks":
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for text in [b"one ", b"two ", b"three"]:
            writer.write(b"%x\r\n%s\r\n" % (len(text), text))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
    elif parts[1] == "trailers":
        count = sum(1 for name in headers if name.startswith("trailer:"))
        text = f"{size} bytes, {count} trailers".encode()
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-end\r\n\r\n")
        writer.write(b"%x\r\n%s\r\n0\r\nx-end: true\r\n\r\n" % (len(text), text))
    elif parts[1] == "endless":
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"1000\r\n%s\r\n" % bytes(4096))
                await writer.drain()
        except ConnectionError:
            LEFT += 1
            raise
    else:
        text = {"left": f"{LEFT} left", "header": headers.get(parts[-1], "none")}.get(parts[1])
        text = (text or f"{method} {path} {size} bytes").encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(text))
        writer.write(b"" if method == "HEAD" else text)
    await writer.drain()


async def websocket(reader, writer, headers):
    """Answers each short text with an echo (RFC 6455)."""
    key = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    writer.write(f"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                 f"sec-websocket-accept: {accept}\r\n\r\n".encode())
    while True:
        first, length = await reader.readexactly(2)
        mask = await reader.readexactly(4)
        masked = await reader.readexactly(length & 127)
        text = bytes(b ^ mask[i % 4] for i, b in enumerate(masked))
        if first & 15 == 8:
            return
        text = b"echo: " + text
        writer.write(bytes([0x81, len(text)]) + text)
        await writer.drain()


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


async def refusing(reader, writer):
    """HTTP/2 as far as it takes to refuse the first streams, and to answer others with 200."""
    try:
        await reader.readexactly(24)
        writer.write(frame(4, 0, 0))
        while True:
            start = await reader.readexactly(9)
            kind, flags, stream = start[3], start[4], int.from_bytes(start[5:], "big")
            payload = await reader.readexactly(int.from_bytes(start[:3], "big"))
            if kind == 4 and not flags & 1:
                writer.write(frame(4, 1, 0))
            elif kind == 6 and not flags & 1:
                writer.write(frame(6, 1, 0, payload))
            elif kind == 1 and "refused" not in REFUSED:
                REFUSED.add("refused")
                writer.write(frame(3, 0, stream, (7).to_bytes(4, "big")))
            elif kind == 1 and "answered" not in REFUSED:
                REFUSED.add("answered")
                writer.write(frame(1, 5, stream, b"\x88"))
            elif kind == 1 and "goaway" not in REFUSED:
                REFUSED.add("goaway")
                writer.write(frame(7, 0, 0, (stream - 2 if stream > 1 else 0).to_bytes(4, "big") + bytes(4)))
                await writer.drain()
                return
            elif kind == 1:
                writer.write(frame(1, 5, stream, b"\x88"))
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


def grpc_server():
    """Calls without a schema: what they carry are bytes."""
    try:
        import grpc
    except ImportError:
        return None
    from concurrent import futures

    def unary(request, context):
        context.set_trailing_metadata([("x-trailer", "end")])
        return request

    def fail(request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "nothing here")

    def slow(request, context):
        while context.is_active():
            context_gone.wait(0.05)
        return b""

    import threading
    context_gone = threading.Event()

    def caller(request, context):
        return dict(context.invocation_metadata()).get("x-forwarded-client-cert", "").encode()

    calls = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Slow": grpc.unary_unary_rpc_method_handler(slow),
        "Caller": grpc.unary_unary_rpc_method_handler(caller),
        "Server": grpc.unary_stream_rpc_method_handler(lambda r, c: (b"%d" % i for i in range(int(r)))),
        "Client": grpc.stream_unary_rpc_method_handler(lambda r, c: b"%d" % sum(1 for _ in r)),
        "Both": grpc.stream_stream_rpc_method_handler(lambda r, c: r),
    }
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Calls", calls)])
    server.add_insecure_port("0.0.0.0:9000")
    server.start()
    return server


async def main():
    _grpc = grpc_server()
    one = await asyncio.start_server(http1, "0.0.0.0", 8000)
    two = await asyncio.start_server(refusing, "0.0.0.0", 9001)
    await asyncio.gather(one.serve_forever(), two.serve_forever())


asyncio.run(main())
