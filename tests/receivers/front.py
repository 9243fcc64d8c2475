"""TLS in front of a server that has none; for Kafka also SASL PLAIN, and the broker's port in what it says of itself.

usage: front.py PORT CERT KEY ALPN [USER PASSWORD]
"""

import socket
import ssl
import struct
import sys
import threading

target = int(sys.argv[1])
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
if sys.argv[4] != "-":
    context.set_alpn_protocols([sys.argv[4]])
login = sys.argv[5:7]
listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]
host = b"\0\x09127.0.0.1"

SASL_HANDSHAKE, API_VERSIONS, SASL_AUTHENTICATE = 17, 18, 36


def with_sasl(data):
    """An answer of ApiVersions (0 to 2) that has the two requests of SASL."""
    correlation, error, count = data[4:8], data[8:10], struct.unpack(">i", data[10:14])[0]
    if error != b"\0\0":
        return data
    entries = struct.pack(">hhh", SASL_HANDSHAKE, 0, 1) + struct.pack(">hhh", SASL_AUTHENTICATE, 0, 1)
    body = correlation + error + struct.pack(">i", count + 2) + entries + data[14:]
    return struct.pack(">i", len(body)) + body


def frame(read):
    size = read(4)
    return size + read(struct.unpack(">i", size)[0])


def reader(sock):
    def read(count):
        data = b""
        while len(data) < count:
            more = sock.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    return read


def kafka(client, server):
    """Nothing reaches the broker before the login, but what a client asks to learn how to log in."""
    ask, answer, known = reader(client), reader(server), False
    while True:
        request = frame(ask)
        api, correlation = struct.unpack(">h", request[4:6])[0], request[8:12]
        if api == SASL_HANDSHAKE:
            body = correlation + struct.pack(">hi", 0, 1) + b"\0\x05PLAIN"
            client.sendall(struct.pack(">i", len(body)) + body)
        elif api == SASL_AUTHENTICATE:
            known = request.endswith(b"\0" + login[0].encode() + b"\0" + login[1].encode())
            # Error code, message, bytes: 58 is SASL_AUTHENTICATION_FAILED.
            body = correlation + (struct.pack(">hhi", 0, -1, 0) if known else struct.pack(">hhi", 58, -1, 0))
            if struct.unpack(">h", request[6:8])[0] >= 1:
                body += struct.pack(">q", 0)
            client.sendall(struct.pack(">i", len(body)) + body)
            print("login" if known else "refused", flush=True)
        elif known or not login or api == API_VERSIONS:
            server.sendall(request)
            data = frame(answer).replace(host + struct.pack(">i", target), host + struct.pack(">i", port))
            client.sendall(with_sasl(data) if api == API_VERSIONS and login else data)
        else:
            return


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def serve(connection):
    try:
        client = context.wrap_socket(connection, server_side=True)
        server = socket.create_connection(("127.0.0.1", target))
        if sys.argv[4] == "-":
            kafka(client, server)
        else:
            threading.Thread(target=pump, args=(server, client), daemon=True).start()
            pump(client, server)
    except (OSError, EOFError) as error:
        print(f"closed: {error}", flush=True)
    finally:
        connection.close()


print(f"port {port}", flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
