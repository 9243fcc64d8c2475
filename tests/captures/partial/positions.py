#!/usr/bin/env python3
"""Where in the TCP streams of lossless captures each MCP message lies.

    positions.py CAPTURE... > positions.json

Reads the captures by itself (Ethernet; IPv4 and IPv6; HTTP/1 by RFC 9112, SSE by the WHATWG grammar, HTTP/2 frames
without HPACK; cleartext and no content coding but gzip) and shares no code with mcp-monitor. A test takes packets
away from these captures, works out which messages still lie wholly in what is left, and expects just those.

For each message: the sender's port, the JSON-RPC kind, id and method, and two ranges of TCP sequence numbers: `text`
is the JSON text, `whole` what a reader by the book needs of it (the SSE event to its empty line; with a content
coding, everything from the response head on).
"""
import json, os, struct, sys, zlib


def packets(path):
    data = open(path, 'rb').read()
    assert struct.unpack('<I', data[:4])[0] == 0xa1b2c3d4 and struct.unpack('<I', data[20:24])[0] == 1, path
    at = 24
    while at < len(data):
        length = struct.unpack('<I', data[at + 8:at + 12])[0]
        yield data[at + 16:at + 16 + length]
        at += 16 + length


def tcp(frame):
    """(sender, receiver, sequence number, flags, payload) or None."""
    kind, ip = struct.unpack('!H', frame[12:14])[0], frame[14:]
    if kind == 0x800 and ip[9] == 6:
        head, total, src, dst = (ip[0] & 15) * 4, struct.unpack('!H', ip[2:4])[0], ip[12:16], ip[16:20]
        if total == 0:
            total = len(ip)
    elif kind == 0x86dd and ip[6] == 6:
        head, total, src, dst = 40, 40 + struct.unpack('!H', ip[4:6])[0], ip[8:24], ip[24:40]
    else:
        return None
    seg = ip[head:total]
    sport, dport, seq = struct.unpack('!HHI', seg[:8])
    return (src, sport), (dst, dport), seq, seg[13], seg[(seg[12] >> 4) * 4:]


def streams(path):
    """{(sender, receiver): (first sequence number, bytes)}; asserts that nothing is missing."""
    parts, first = {}, {}
    for frame in packets(path):
        found = tcp(frame)
        if not found:
            continue
        src, dst, seq, flags, payload = found
        if flags & 2:
            # A port may be used again; the first connection counts, and these captures have no second one.
            first.setdefault((src, dst), (seq + 1) & 0xffffffff)
        elif payload:
            parts.setdefault((src, dst), []).append((seq, payload))
    out = {}
    for key, list_ in parts.items():
        base, data = first[key], bytearray()
        for seq, payload in sorted(list_, key=lambda p: (p[0] - base) & 0xffffffff):
            at = (seq - base) & 0xffffffff
            if at > 0x7fffffff:
                continue
            assert at <= len(data), (path, key, at, len(data))
            data[at:at + len(payload)] = payload if len(data) <= at + len(payload) else data[at:at + len(payload)]
        out[key] = (base, bytes(data))
    return out


def heads(data, at):
    end = data.index(b'\r\n\r\n', at) + 4
    lines = data[at:end - 4].split(b'\r\n')
    fields = {}
    for line in lines[1:]:
        name, value = line.split(b':', 1)
        fields.setdefault(name.strip().lower(), value.strip())
    return lines[0].decode(), fields, end


def messages(data, requests, methods):
    """HTTP/1: (head start, fields, body, raw offset of each body byte, end)."""
    at = 0
    while at < len(data):
        start = at
        line, fields, at = heads(data, at)
        method = None
        if requests:
            methods.append(line.split()[0])
        else:
            status = int(line.split()[1])
            if 100 <= status < 200:
                continue
            method = methods.pop(0) if methods else 'GET'
            if method == 'HEAD' or status in (204, 304):
                yield start, fields, b'', []
                continue
        if b'chunked' in fields.get(b'transfer-encoding', b''):
            body, raw = bytearray(), []
            while True:
                stop = data.find(b'\r\n', at)
                if stop < 0:
                    at = len(data)
                    break
                size = int(data[at:stop].split(b';')[0], 16)
                at = stop + 2
                body += data[at:at + size]
                raw += range(at, min(at + size, len(data)))
                at += size
                if size == 0:
                    at = data.index(b'\r\n', at) + 2
                    break
                at += 2
            yield start, fields, bytes(body), raw
        else:
            length = int(fields.get(b'content-length', b'0')) if requests or b'content-length' in fields else len(data) - at
            yield start, fields, data[at:at + length], list(range(at, min(at + length, len(data))))
            at += length


def events(body):
    """SSE: (event start, end, data, offset of the first data byte, of the last) of each that is dispatched."""
    at, lines, start = 0, [], 0
    while at < len(body):
        end = min([i for i in (body.find(b'\n', at), body.find(b'\r', at)) if i >= 0] or [-1])
        if end < 0:
            return
        line, begin = body[at:end], at
        at = end + (2 if body[end:end + 2] == b'\r\n' else 1)
        if line:
            name, _, value = line.partition(b':')
            if name == b'data':
                space = value[:1] == b' '
                lines.append((value[1:] if space else value, begin + 5 + space))
            continue
        if lines:
            yield start, at, b'\n'.join(l for l, _ in lines), lines[0][1], lines[-1][1] + len(lines[-1][0])
        lines, start = [], at


def rpc(text):
    """What each JSON-RPC message in a JSON text is."""
    try:
        value = json.loads(text)
    except ValueError:
        return
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, dict) or one.get('jsonrpc') != '2.0':
            continue
        kind = ('request' if 'id' in one else 'notification') if 'method' in one else \
            'error' if 'error' in one else 'response' if 'result' in one else None
        if kind:
            yield kind, str(one['id']) if one.get('id') is not None else None, one.get('method')


def http2(data):
    """{stream: (bytes of its DATA, raw offset of each)}"""
    at, out = 24 if data.startswith(b'PRI * HTTP/2.0') else 0, {}
    while at + 9 <= len(data):
        length, kind, flags = int.from_bytes(data[at:at + 3], 'big'), data[at + 3], data[at + 4]
        stream = int.from_bytes(data[at + 5:at + 9], 'big') & 0x7fffffff
        begin, end = at + 9, at + 9 + length
        if kind == 0:
            if flags & 8:
                begin, end = begin + 1, end - data[begin]
            body, raw = out.setdefault(stream, (bytearray(), []))
            body += data[begin:end]
            raw += range(begin, min(end, len(data)))
        at += 9 + length
    return out


def found(base, port, text, whole):
    span = lambda r: [(base + r[0]) & 0xffffffff, r[1] - r[0]]
    for kind, id_, method in rpc(text[0]):
        yield {'port': port, 'kind': kind, 'id': id_, 'method': method, 'text': span(text[1]), 'whole': span(whole)}


def body_messages(base, port, sse, body, raw, coded_from):
    if sse:
        for start, end, text, first, last in events(body):
            if coded_from is not None:
                yield from found(base, port, (text, (coded_from[0], coded_from[1](end))), (coded_from[0], coded_from[1](end)))
            else:
                yield from found(base, port, (text, (raw[first], raw[last - 1] + 1 if last > first else raw[first])),
                                 (raw[start], raw[end - 1] + 1))
    elif body.strip():
        span = (raw[0], raw[-1] + 1) if coded_from is None else (coded_from[0], coded_from[1](len(body)))
        yield from found(base, port, (body, span), span)


def inflated(body, raw):
    """The decoded body, and how far into the raw stream one must have read for so many of its bytes."""
    decoder, plain, upto = zlib.decompressobj(31), bytearray(), []
    for i in range(len(body)):
        plain += decoder.decompress(body[i:i + 1])
        upto.append(len(plain))
    def end(length):
        for i, have in enumerate(upto):
            if have >= length:
                return raw[i] + 1
        return raw[-1] + 1
    return bytes(plain), end


def capture(path):
    all_, seen = streams(path), []
    pairs = [(key, (key[1], key[0])) for key in all_ if all_[key][1][:24].startswith((b'GET ', b'POST ', b'DELETE ', b'OPTIONS ', b'HEAD ', b'PUT ', b'PRI '))]
    for up, down in pairs:
        if all_[up][1].startswith(b'PRI '):
            for key in (up, down):
                base, data = all_.get(key, (0, b''))
                for body, raw in http2(data).values():
                    sse = not body.lstrip()[:1] in (b'{', b'[')
                    seen += body_messages(base, key[0][1], sse, bytes(body), raw, None)
            continue
        methods = []
        for key in (up, down):
            base, data = all_.get(key, (0, b''))
            for start, fields, body, raw in messages(data, key == up, methods):
                sse, coded = b'event-stream' in fields.get(b'content-type', b''), None
                if fields.get(b'content-encoding') == b'gzip' and body:
                    body, end = inflated(body, raw)
                    coded = (start, end)
                seen += body_messages(base, key[0][1], sse, body, raw, coded)
    return sorted(seen, key=lambda m: (m['port'], m['whole']))


if __name__ == '__main__':
    print(json.dumps({os.path.basename(path): capture(path) for path in sys.argv[1:]}, indent=None, separators=(',', ':')).replace('},{', '},\n{'))
