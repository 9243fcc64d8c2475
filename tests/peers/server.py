"""A real MCP server (Python SDK). usage: python server.py '{"host": "...", "port": 8080, ...}'

  host           "" for all addresses, of both families
  transport      "streamable" (default, path /mcp) or "sse" (path /sse)
  json_response  answer with application/json instead of an event stream
  name, version  the server's identity
  tls            {"cert": file, "key": file, "max": "1.2" or "1.3"}: HTTPS
Prints `ready` on standard output once it listens.
"""

import asyncio
import json
import ssl
import sys

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

OPTIONS = {"host": "", "port": 8080, "transport": "streamable", "json_response": False}
OPTIONS |= {"name": "market-data", "version": "4.2.0"}
OPTIONS |= json.loads(sys.argv[1])

server = MCPServer(OPTIONS["name"], version=OPTIONS["version"])


@server.tool()
def echo(message: str) -> str:
    """Returns the message."""
    return f"Echo: {message}"


@server.tool()
def get_quote(symbol: str) -> dict[str, float]:
    """Last price of a symbol."""
    return {"ACME": {"price": 42.5}, "GLOBEX": {"price": 17.25}}.get(symbol, {"price": 1.0})


@server.tool()
async def slow(steps: int, ctx: Context) -> str:
    """Works for a while and says how far it is."""
    for step in range(steps):
        await ctx.report_progress(step + 1, steps)
        await asyncio.sleep(0.05)
    return "done"


@server.resource("note://readme")
def readme() -> str:
    return "Prices are delayed by fifteen minutes.\n" * 400


def app():
    # The tests reach it by name and by address, so the host is left to the namespace.
    host = OPTIONS["host"]
    if OPTIONS["transport"] == "sse":
        return server.sse_app(host=host)
    return server.streamable_http_app(json_response=OPTIONS["json_response"], host=host)


class Announcing(uvicorn.Server):
    async def startup(self, sockets=None) -> None:
        await super().startup(sockets=sockets)
        print("ready", flush=True)


TLS = OPTIONS.get("tls")
config = uvicorn.Config(
    app(),
    host=OPTIONS["host"],
    port=OPTIONS["port"],
    log_level="warning",
    ws="none",
    ssl_certfile=TLS and TLS["cert"],
    ssl_keyfile=TLS and TLS["key"],
)
config.load()
if TLS and TLS.get("max") == "1.2":
    config.ssl.maximum_version = ssl.TLSVersion.TLSv1_2
asyncio.run(Announcing(config).serve())
