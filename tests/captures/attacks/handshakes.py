"""More handshakes and more of DNS: OpenSSL, curl, Go and Chromium, and a host in the middle that edits a ClientHello."""

import os
import pathlib
import socket
import subprocess
import threading

from cases import (BLIND, DIG, SSL, TLS12, TLSPINS, answers, attack, benign, certificate, says, tls_get,
                   tls_server)
from stage import MARKET, NAMES, PEERS

HERE = pathlib.Path(__file__).parent
CLIENT = "openssl s_server; openssl s_client"


def name_servers(*names):
    """The options by which dnsmasq names the servers of market.example."""
    wire = lambda name: "".join(f"{len(label):02x}{label.encode().hex()}" for label in name.split(".")) + "00"
    return {"more": [f"--dns-rr=market.example,2,{wire(name)}" for name in names]}


HOME = ["ns1.market.example", "ns2.market.example"]
attack("DNS-08", "the zone of a pinned name has other servers", says("DNS-08", "ns1.attacker.example"), made=DIG)(
    answers((NAMES, name_servers(*HOME)), (NAMES, name_servers("ns1.attacker.example")), name="market.example", kind="NS"))
benign("DNS-08", "the same servers in another order, for a shorter time", made=DIG)(
    answers((NAMES, name_servers(*HOME)), (NAMES, name_servers(*reversed(HOME)) | {"ttl": 5}), name="market.example", kind="NS"))

# The subject of a root that browsers trust; the key is not that root's.
PUBLIC = "C=US/O=Internet Security Research Group/CN=ISRG Root X1"


def public(s, issuer, extension=""):
    return certificate(s, "leaf", issuer=issuer, more=extension, plain=True)


def shown(issuer, extension=""):
    def play(s):
        tls_server(s, public(s, issuer, extension))
        tls_get(s, *TLS12)
    return play


ZEROS = "00" * 32
STAMP = f"0076 00{ZEROS}{'00' * 8}0000 0403 0047 30450220{ZEROS}022100{ZEROS}".replace(" ", "")
attack("TLS-04", "a certificate under a public root that no log has", says("TLS-04"), made=SSL, pins=None)(shown(PUBLIC))
benign("TLS-04", "a certificate of a private CA", made=SSL, pins=None)(shown("O=Example Trust/CN=Example CA"))
benign("TLS-04", "a certificate under a public root with a timestamp", made=SSL, pins=None)(
    shown(PUBLIC, f"1.3.6.1.4.1.11129.2.4.2=DER:047a0078{STAMP}\n"))


def terminated(*ciphers):
    """One server after the other, each with these TLS 1.3 suites, asked once."""
    def play(s):
        folder = certificate(s, "leaf")
        for suite in ciphers:
            server = tls_server(s, folder, "-ciphersuites", suite)
            tls_get(s)
            s.stop(server)
    return play


AES256, AES128 = "TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"
attack("TLS-06", "another suite after six handshakes", says("TLS-06"), BLIND, made=SSL, pins=TLSPINS)(terminated(*[AES256] * 6, AES128))
benign("TLS-06", "a fleet of two kinds", BLIND, made=SSL, pins=TLSPINS)(terminated(*[AES256, AES128] * 4))


def hidden(s):
    program, config, folder = s.folder / "ech", s.folder / "ech.config", certificate(s, "leaf")
    environment = {**os.environ, "GOCACHE": str(PEERS / "go/cache"), "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    subprocess.run([PEERS / "venv/bin/go", "build", "-o", program, HERE / "ech.go"], check=True, env=environment)
    s.dns(NAMES)
    s.program(str(program), "serve", f"{MARKET}:443", f"{folder}/leaf.pem", f"{folder}/key.pem", str(config), listens=(MARKET, 443))
    s.lookup("mcp.market.example")
    s.run(str(program), "get", f"{MARKET}:443", "mcp.market.example", str(config))


attack("TLS-07", "the name of a pinned server is hidden", says("TLS-07", "encrypted ClientHello behind cover.provider.example"), made="Go crypto/tls; dnsmasq; dig",
       but={"ipv6": "the name is known from DNS, which this form leaves out"}, pins=TLSPINS)(hidden)


def greased(s):
    s.hosts(f"{MARKET} mcp.market.example\n")
    tls_server(s, certificate(s, "leaf"))
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-extensions",
             "--disable-default-apps", "--no-pings", "--disable-features=OptimizationHints,MediaRouter,Translate,DnsOverHttps"]
    s.run("chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={s.folder}/chromium", *quiet,
          "--ignore-certificate-errors", "--dump-dom", "https://mcp.market.example/mcp")


benign("TLS-07", "a browser that sends the extension with nothing in it", BLIND, made="openssl s_server; Chromium", pins=TLSPINS)(greased)


def identified(*rounds):
    """A server that asks for certificates, and connections with these options."""
    def play(s):
        folder = certificate(s, "leaf")
        client = certificate(s, "leaf", subject="agent-1.example")
        tls_server(s, folder, "-verify", "1")
        for options in rounds:
            given = [str(option).format(client=client, folder=s.folder) for option in options]
            ask = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -quiet \"$@\""
            s.run("sh", "-c", ask, "-", "-connect", f"{MARKET}:443", "-servername", "mcp.market.example", "-tls1_2", *given)
    return play


SHOWS = ["-cert", "{client}/leaf.pem", "-key", "{client}/key.pem"]
attack("TLS-08", "a client that no longer shows its certificate", says("TLS-08"), made=CLIENT, pins=None)(identified(SHOWS, []))
benign("TLS-08", "a client that goes on showing it", made=CLIENT, pins=None)(identified(SHOWS, SHOWS))
benign("TLS-08", "a session that is resumed", made=CLIENT, pins=None)(
    identified([*SHOWS, "-sess_out", "{folder}/session"], ["-sess_in", "{folder}/session"]))


def lowered(s):
    """Takes TLS 1.3 out of what a client offers. The server says in its random that it was made to speak 1.2."""
    tls_server(s, certificate(s, "leaf"), at="127.0.0.1")

    def work():
        door = socket.create_server((MARKET, 443))
        client, _ = door.accept()
        server = socket.create_connection(("127.0.0.1", 443))
        hello = client.recv(65535)
        server.sendall(hello.replace(b"\x00\x2b\x00\x09\x08\x03\x04", b"\x00\x2b\x00\x09\x08\x03\x03"))

        def back():
            while data := server.recv(65535):
                client.sendall(data)

        threading.Thread(target=back, daemon=True).start()
        while data := client.recv(65535):
            server.sendall(data)

    s.in_world(work)
    s.listening(MARKET, 443)
    s.run("openssl", "s_client", "-connect", f"{MARKET}:443", "-servername", "mcp.market.example")


attack("DG-03", "a host in the middle takes TLS 1.3 out of the offer", says("DG-03", "TLS 1.2 with downgrade mark", ["TLS 1.3"]), made=f"{CLIENT}; a proxy of ours", pins=None)(lowered)
benign("DG-03", "a client that offers TLS 1.2 only", made=SSL, pins=None)(
    lambda s: (tls_server(s, certificate(s, "leaf")), tls_get(s, *TLS12)))
