"""Revision 2026-07-28: the Python SDK on both sides, as it is or behind nginx that interferes."""

from cases import PROXY, attack, benign, pinned, says, tool, twice
from stage import MARKET, NAMES, ORDERS

FIRST_PARTY = pinned(first_party=True)
MODERN = {"mode": "auto"}
BEHIND = f"server {{ listen {MARKET}:80; location / {{ {PROXY} }} }}"
# What a host in the middle does to make both sides speak as they used to: the probe is refused with nothing said.
REFUSES = f'server {{ listen {MARKET}:80; location / {{ if ($http_mcp_method = "server/discover") {{ return 400; }} {PROXY} }} }}'


def modern(server=None, **session):
    def play(s):
        s.dns(NAMES)
        s.mcp(**(server or {}))
        s.session(**MODERN, **session)
    return play


def query(**properties):
    return {"tools": [tool(ORDERS, name="query", description="Orders of a region.", inputSchema={"type": "object", "properties": properties})]}


REGION = {"type": "string", "x-mcp-header": "Region"}
attack("CR-09", "a secret parameter that is copied into a header", says("CR-09", "query.api_key"))(
    modern(query(region=REGION, api_key={"type": "string", "x-mcp-header": "Key"})))
benign("CR-09", "a region and a number in headers, the key in the body only")(
    modern(query(region=REGION, max_tokens={"type": "integer", "x-mcp-header": "Max"}, api_key={"type": "string"})))


def probed(*servers):
    """The SDK behind nginx, which is set up anew before each session."""
    def play(s):
        s.dns(NAMES)
        s.mcp(at="127.0.0.1", port=8000)
        for server in servers:
            front = s.nginx(server, (MARKET, 80))
            s.session(**MODERN)
            s.stop(front)
    return play


attack("DG-07", "nginx refuses the probe of a server that was modern, and the SDK falls back", says("DG-07", "status 400, then initialize"), says("DG-06", "2025-11-25", ["2026-07-28 or later"]), made="python behind nginx")(
    probed(BEHIND, REFUSES))
benign("DG-07", "a server behind a proxy that never let the probe through", made="python behind nginx")(probed(REFUSES, REFUSES))


def eras(s):
    """One name in two libraries: an agent of many parts."""
    s.dns(NAMES)
    s.mcp()
    for mode in ["auto", "legacy", "auto", "legacy"]:
        s.session(mode=mode)


benign("DG-06", "one client name in libraries of both eras")(eras)
PRICED = {"tools": [tool(outputSchema={"type": "object", "properties": {"price": {"type": "number"}}})]}
attack("DG-13", "an outputSchema lost", says("DG-13", "get_quote without outputSchema"), says("TD-01"))(
    twice(PRICED, {"tools": [tool()]}, **MODERN))


def both(s):
    s.dns(NAMES)
    s.mcp(**PRICED)
    s.session(**MODERN)
    s.session(info={"name": "old-agent", "version": "0.9.0"})


benign("DG-13", "one server for clients of both eras")(both)
META = {f"io.modelcontextprotocol/{key}": value for key, value in {
    "protocolVersion": "2026-07-28", "clientCapabilities": {}, "clientInfo": {"name": "agent", "version": "1.0.0"}}.items()}
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "get_orders", "arguments": {"limit": 10}, "_meta": META}}


def headed(*headers):
    """One call by curl with these headers, after a session that shows what the server is."""
    def play(s):
        s.dns(NAMES)
        s.mcp()
        s.session(**MODERN)
        s.post(CALL, *[part for header in headers for part in ("-H", header)], version="2026-07-28")
    return play


attack("PV-02", "the header names another method than the body", says("PV-02", "Mcp-Method: tools/list", ["Mcp-Method: tools/call"]), made="python; curl")(
    headed("mcp-method: tools/list", "mcp-name: get_orders"))
attack("PV-02", "the header names another tool than the body", says("PV-02", "Mcp-Name: get_quote", ["Mcp-Name: get_orders"]), made="python; curl")(
    headed("mcp-method: tools/call", "mcp-name: get_quote"))
benign("PV-02", "an argument that its header has in base64")(
    modern(query(region=REGION), calls=[("query", {"region": "Köln"})]))


def registers(s):
    """The reference server adds tools once the client has said that it is ready and what it can do, and announces that."""
    s.dns(NAMES)
    server = s.everything()
    s.typescript(full=True)
    s.typescript(full=True)
    s.stop(server)
    s.everything()
    s.typescript(full=True)


benign("TD-03", "a server that registers tools after the session began", made="typescript (server-everything)", pins=FIRST_PARTY)(registers)
EDITED = {"later": [tool(description="Price of yesterday."), ORDERS]}
QUOTED = [("get_quote", {"symbol": "ACME"})]
attack("TD-02", "changed in mid-session, and nothing is told", says("TD-02"), says("TD-01"))(
    lambda s: (s.dns(NAMES), s.mcp(**EDITED, json_response=False), s.session(calls=QUOTED, again=True, pause=0.2)))
attack("TD-02", "changed before the list's time was over", says("TD-02"), says("TD-01"))(
    lambda s: (s.dns(NAMES), s.mcp(**EDITED, ttl=3_600_000), s.session(**MODERN, calls=QUOTED), s.session(**MODERN)))
benign("TD-02", "changed in mid-session, and told", says("TD-01"))(
    lambda s: (s.dns(NAMES), s.mcp(**EDITED, tells=True, json_response=False), s.session(calls=QUOTED, again=True, pause=0.2)))
