"""A real MCP client (Python SDK) that plays a scripted session and logs every JSON-RPC message
its transport sent or received, so that a test can compare exact counts.

usage: python client.py '{"url": "http://...", "transport": "streamable" | "sse", ...}'
Options and output are those of client.mjs; `mode` is the SDK's own ("legacy", "auto" or a revision).
"""

import asyncio
import contextlib
import json
import sys
from typing import Any

from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

OPTIONS = {"transport": "streamable", "mode": "legacy", "calls": 5, "sessions": 1, "pause_ms": 500}
OPTIONS |= json.loads(sys.argv[1])
TOTALS: dict[str, Any] = {"requests": 0, "responses": 0, "notifications": 0, "errors": 0, "methods": {}}


def say(**event: Any) -> None:
    print(json.dumps(event), flush=True)


def count(direction: str, item: Any) -> None:
    message = getattr(item, "message", None)
    if message is None:
        return
    body = getattr(message, "root", message).model_dump(by_alias=True, exclude_unset=True)
    method, ident = body.get("method"), body.get("id")
    kind = "response" if method is None else "notification" if ident is None else "request"
    TOTALS[kind + "s"] += 1
    if "error" in body:
        TOTALS["errors"] += 1
    if method is not None:
        TOTALS["methods"][method] = TOTALS["methods"].get(method, 0) + 1
    say(event="message", direction=direction, kind=kind, method=method, id=ident)


class Tap:
    """One of the transport's streams, with what passes through it counted."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def send(self, item: Any) -> None:
        count("sent", item)
        await self._stream.send(item)

    async def receive(self) -> Any:
        item = await self._stream.receive()
        count("received", item)
        return item

    def __aiter__(self) -> "Tap":
        return self

    async def __anext__(self) -> Any:
        item = await self._stream.__anext__()
        count("received", item)
        return item

    async def __aenter__(self) -> "Tap":
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *exc: Any) -> Any:
        return await self._stream.__aexit__(*exc)


@contextlib.asynccontextmanager
async def transport():
    opened = (sse_client if OPTIONS["transport"] == "sse" else streamable_http_client)(OPTIONS["url"])
    async with opened as (reader, writer):
        yield Tap(reader), Tap(writer)


async def play(client: Client) -> None:
    tools = {tool.name for tool in (await client.list_tools()).tools}
    for i in range(OPTIONS["calls"]):
        if "echo" in tools:
            await client.call_tool("echo", {"message": f"quote {i} für Zürich, " + "x" * (i * 977 % 9000)})
        if "get_quote" in tools:
            await client.call_tool("get_quote", {"symbol": ("ACME", "GLOBEX", "INITECH")[i % 3]})
    if "slow" in tools:
        await client.call_tool("slow", {"steps": 3}, progress_callback=lambda *_: asyncio.sleep(0))
    for resource in (await client.list_resources()).resources:
        await client.read_resource(str(resource.uri))
    await client.list_resource_templates()
    await client.list_prompts()
    # A note that is not there: the answer is a JSON-RPC error.
    with contextlib.suppress(Exception):
        await client.read_resource("note://missing")


async def main() -> None:
    for i in range(OPTIONS["sessions"]):
        if i:
            await asyncio.sleep(OPTIONS["pause_ms"] / 1000)
        try:
            async with Client(transport(), mode=OPTIONS["mode"]) as client:
                await play(client)
                await asyncio.sleep(0.2)
                say(event="session", protocol=client.protocol_version)
        except Exception as error:  # noqa: BLE001: a broken session is an outcome that the test reads
            say(event="error", message=repr(error))
    say(event="done", **TOTALS)


asyncio.run(main())
