"""The stage on which attacks are recorded: an agent and a world, two network namespaces joined by a veth pair.

    agent 10.1.0.5 ── eth0 ── world: every other address

Servers run in the world, programs of the agent in the agent's namespace; tcpdump listens on the agent's interface. Both
are forked from one process that has the MCP SDK loaded, because its import takes seconds and a recording does not.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

import httpx2
import mcp_types as types
import uvicorn
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import MCPServer
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

PEERS = pathlib.Path(sys.prefix).parent
AGENT, MARKET, EVIL, RESOLVER, LOGIN = "10.1.0.5", "203.0.113.10", "198.51.100.66", "10.96.0.10", "203.0.113.40"
WORLD = [MARKET, "203.0.113.11", LOGIN, EVIL, "198.51.100.20", "198.51.100.53", RESOLVER, "192.0.2.53", "10.9.9.9"]
WORLD += ["10.0.9.4", "169.254.169.254"]
NAMES = {"mcp.market.example": [MARKET], "collect.attacker.example": [EVIL], "mcp.files.example": ["198.51.100.20"]}
NEWNET, NEWNS = 0x40000000, 0x00020000
LIBC = ctypes.CDLL(None, use_errno=True)


def sh(*args, **options):
    return subprocess.run(args, check=True, capture_output=True, **options)


def checked(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Stage:
    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="attacks-"))
        self.names = [f"rec{os.getpid()}-agent", f"rec{os.getpid()}-world"]
        self.agent_ns, self.world_ns = self.names
        self.children = []
        for name in self.names:
            sh("ip", "netns", "add", name)
            sh("ip", "-n", name, "link", "set", "lo", "up")
        sh("ip", "-n", self.agent_ns, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", self.world_ns)
        for name in self.names:
            sh("ip", "-n", name, "link", "set", "eth0", "up")
        sh("ip", "-n", self.agent_ns, "addr", "add", f"{AGENT}/8", "dev", "eth0")
        for address in ["10.1.0.6", "10.1.0.7"]:
            sh("ip", "-n", self.agent_ns, "addr", "add", f"{address}/8", "dev", "eth0")
        sh("ip", "-n", self.agent_ns, "route", "add", "default", "dev", "eth0")
        for address in WORLD:
            sh("ip", "-n", self.world_ns, "addr", "add", f"{address}/32", "dev", "eth0")
        sh("ip", "-n", self.world_ns, "route", "add", "10.1.0.0/16", "dev", "eth0")
        (self.folder / "nsswitch.conf").write_text("hosts: files dns\n")
        self.resolver(RESOLVER)
        self.hosts("")

    def close(self):
        self.clear()
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False)

    # What the agent's host is set to.

    def resolver(self, address):
        (self.folder / "resolv.conf").write_text(f"nameserver {address}\noptions timeout:1 attempts:1\n")

    def hosts(self, lines):
        (self.folder / "hosts").write_text("127.0.0.1 localhost\n" + lines)

    # Processes.

    def enter(self, name):
        with open(f"/run/netns/{name}") as namespace:
            checked(LIBC.setns(namespace.fileno(), NEWNET))
        checked(LIBC.unshare(NEWNS))
        checked(LIBC.mount(b"none", b"/", None, 0x4000 | 0x40000, None))
        for file in ["resolv.conf", "hosts", "nsswitch.conf"]:
            checked(LIBC.mount(str(self.folder / file).encode(), f"/etc/{file}".encode(), None, 0x1000, None))

    def fork(self, namespace, work):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.setpgid(0, 0)
                self.enter(namespace)
                work()
                code = 0
            except BaseException as error:  # noqa: BLE001: whatever it is, the child ends here
                print(f"  child: {error!r}", file=sys.stderr)
            finally:
                os._exit(code)
        return child

    def in_world(self, work, place=None):
        child = self.fork(place or self.world_ns, work)
        self.children.append(child)
        return child

    def in_agent(self, work, limit=40, place=None):
        child = self.fork(place or self.agent_ns, work)
        end = time.monotonic() + limit
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if time.monotonic() > end:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                raise TimeoutError("the agent does not end")
            time.sleep(0.02)

    def stop(self, child):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        self.children.remove(child)

    def clear(self):
        for child in list(self.children):
            self.stop(child)

    def listening(self, address, port, kind="tcp", place=None):
        end = time.monotonic() + 15
        while time.monotonic() < end:
            told = sh("ip", "netns", "exec", place or self.world_ns, "cat", f"/proc/net/{kind}").stdout.decode()
            local = socket.inet_aton(address)[::-1].hex().upper()
            # Local address, remote address, state: 0A is LISTEN, 07 an unconnected UDP socket.
            waits = {line.split()[1] for line in told.splitlines()[1:] if line.split()[3] in ("0A", "07")}
            if any(f"{ip}:{port:04X}" in waits for ip in (local, "00000000")) or kind == "tcp" and self.listens_to_all(port, place):
                return
            time.sleep(0.02)
        raise TimeoutError(f"nothing listens on {address}:{port}")

    def listens_to_all(self, port, place=None):
        """On all addresses of both families, as Node does."""
        told = sh("ip", "netns", "exec", place or self.world_ns, "cat", "/proc/net/tcp6").stdout.decode()
        return any(line.split()[1] == f"{'0' * 32}:{port:04X}" and line.split()[3] == "0A" for line in told.splitlines()[1:])

    # Software of the world.

    def program(self, *args, listens=None, text=None):
        """A program in the world, until the end of the case or `stop`."""
        def work():
            quiet = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(quiet, stream)
            os.execvp(args[0], list(args))
        child = self.in_world(work)
        if listens:
            self.listening(*listens)
        return child

    def dns(self, names, at=RESOLVER, ttl=300, more=()):
        """dnsmasq with these names and nothing else; `more` are its own options."""
        args = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces"]
        args += [f"--listen-address={at}", f"--local-ttl={ttl}", "--user=root", "--pid-file=", "--cache-size=0", *more]
        args += [f"--local=/{name}/" for name in names]
        args += [f"--host-record={name},{address}" for name, addresses in names.items() for address in addresses]
        return self.program(*args, listens=(at, 53, "udp"))

    def nginx(self, servers, listens):
        """nginx with these `server { … }` blocks."""
        conf = self.folder / f"nginx-{time.monotonic_ns()}.conf"
        body = "daemon off; master_process off; user root; error_log /dev/null; pid /dev/null; events {}\n"
        conf.write_text(f"{body}http {{ access_log off; client_body_temp_path {self.folder}; proxy_buffering off; {servers} }}\n")
        return self.program("nginx", "-p", str(self.folder), "-c", str(conf), "-e", "/dev/null", listens=listens)

    def serve(self, app, at=MARKET, port=80, place=None, **options):
        """An ASGI application on uvicorn; `place`: another namespace than the world's."""
        def work():
            uvicorn.run(app() if callable(app) and not isinstance(app, Starlette) else app, host=at, port=port, log_level="critical", **options)
        child = self.in_world(work, place)
        self.listening(at, port, place=place)
        return child

    def mcp(self, at=MARKET, port=80, headers=None, place=None, **options):
        """An MCP server on the Python SDK; `options` as for `mcp_app`."""
        return self.serve(lambda: mcp_app(**options), at, port, place, headers=list((headers or {}).items()))

    def everything(self, at=MARKET, port=80):
        """The TypeScript reference server, over Streamable HTTP; it listens on all addresses."""
        script = PEERS / "node_modules/@modelcontextprotocol/server-everything/dist/index.js"
        return self.program("env", f"PORT={port}", "node", str(script), "streamableHttp", listens=(at, port))

    # Software of the agent.

    def session(self, url="http://mcp.market.example/mcp", place=None, **options):
        """A session of the Python SDK; `options` as for `play`."""
        def work():
            asyncio.run(play(url, **options))
        self.in_agent(work, place=place)

    def run(self, *args, env=None, fails=True):
        """A program of the agent; its output is of no interest."""
        def work():
            subprocess.run(args, env={**os.environ, **(env or {})}, check=not fails, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30, cwd=PEERS)
        self.in_agent(work)

    def typescript(self, url="http://mcp.market.example/mcp", **options):
        """A session of the TypeScript SDK, by tests/peers/client.mjs."""
        given = {"url": url, "sdk": "1.30", "full": False, "calls": 1, "sessions": 1} | options
        self.run("node", "client.mjs", json.dumps(given))

    def curl(self, *args, env=None):
        self.run("curl", "-sS", "-m", "10", "-o", "/dev/null", *args, env=env)

    def post(self, body, *args, url="http://mcp.market.example/mcp", version="2025-11-25"):
        """One message by curl, outside of a session."""
        text = body if isinstance(body, str) else json.dumps(body)
        self.curl("-H", "content-type: application/json", "-H", "accept: application/json, text/event-stream",
                  *(["-H", f"mcp-protocol-version: {version}"] if version else []), *args, "--data-binary", text, url)

    def lookup(self, name, kind="A", at=RESOLVER):
        self.run("dig", "+tries=1", "+time=2", f"@{at}", name, kind)

    @contextlib.contextmanager
    def recording(self, file):
        args = ["ip", "netns", "exec", self.agent_ns, "tcpdump", "-i", "eth0", "-s", "0", "-B", "32768", "-U", "--immediate-mode", "-Z", "root", "-w", file]
        dump = subprocess.Popen([*args, "tcp or udp"], stderr=subprocess.PIPE, text=True)
        while "listening on" not in dump.stderr.readline():
            pass
        try:
            yield
        finally:
            time.sleep(0.3)
            dump.send_signal(signal.SIGINT)
            told = dump.communicate(timeout=10)[1]
            if "\n0 packets dropped by kernel" not in "\n" + told:
                raise RuntimeError(f"tcpdump lost packets: {told}")


QUOTE = {
    "name": "get_quote",
    "description": "Latest price of a listed share.",
    "inputSchema": {"type": "object", "properties": {"symbol": {"type": "string"}}, "required": ["symbol"]},
    "annotations": {"readOnlyHint": True},
}
ORDERS = {
    "name": "get_orders",
    "description": "Open orders of the account.",
    "inputSchema": {"type": "object", "properties": {"limit": {"type": "integer"}}},
}


def text(content):
    return {"content": [{"type": "text", "text": content}]}


def mcp_app(name="market-data", version="4.2.0", instructions=None, tools=(QUOTE, ORDERS), results=None, asks=None,
            prompts=None, path="/mcp", json_response=True, stateless=False, extra=None, later=None, ttl=0, tells=False, **guard):
    """A server with these tools. `results`: by tool, what it answers (a list: one after the other; a function: of the
    arguments); `asks`: by tool, the request of the server that comes before its answer; `extra`: more routes; `later`:
    its tools from the first call on, which it announces if it `tells`; `ttl`: how long lists hold, in milliseconds;
    `guard`: what the SDK takes for authorization."""
    counts = {}

    async def list_tools(ctx, params):
        now = later if later and counts else tools
        return types.ListToolsResult(tools=[types.Tool.model_validate(tool) for tool in now], ttl_ms=ttl)

    async def list_prompts(ctx, params):
        return types.ListPromptsResult(prompts=[types.Prompt.model_validate(prompt) for prompt in prompts])

    async def call_tool(ctx, params):
        ask = (asks or {}).get(params.name)
        if ask:
            with contextlib.suppress(Exception):
                await ctx.session._request_outbound.send_raw_request(ask["method"], ask.get("params"))
        result = (results or {}).get(params.name, text("42.5"))
        if isinstance(result, list):
            result = result[counts.get(params.name, 0) % len(result)]
        elif callable(result):
            result = result(params.arguments)
        counts[params.name] = counts.get(params.name, 0) + 1
        if tells:
            await ctx.session.send_tool_list_changed()
        return types.CallToolResult.model_validate(result)

    handlers = {"on_list_tools": list_tools, "on_call_tool": call_tool}
    if prompts is not None:
        handlers["on_list_prompts"] = list_prompts
    server = Server(name, version=version, instructions=instructions, **handlers)
    # A request of the server needs a stream to come on.
    json_response = json_response and not asks
    return server.streamable_http_app(streamable_http_path=path, json_response=json_response, stateless_http=stateless,
                                      host="0.0.0.0", custom_starlette_routes=extra, **guard)


def sse_app(name="market-data", version="4.2.0"):
    """The same over the older HTTP+SSE."""
    server = MCPServer(name, version=version)

    @server.tool()
    def get_quote(symbol: str) -> str:
        """Latest price of a listed share."""
        return "42.5"

    return server.sse_app(host="0.0.0.0")


def document(path, body, status=200, headers=None):
    """A route that answers with this document."""
    async def answer(request):
        return JSONResponse(body, status, headers) if body is not None else Response(None, status, headers)
    return Route(path, answer, methods=["GET", "POST", "DELETE"])


async def play(url, calls=(), listing=True, prompts=False, headers=None, mode="legacy", info=None, sampling=False,
               elicitation=False, roots=None, transport="streamable", pause=0.0, verify=True, auth=None, again=False):
    """One session: the list of tools, then these calls, as pairs of name and arguments, then the list `again`."""
    async def sampled(*_):
        return types.ErrorData(code=-1, message="declined")

    async def elicited(*_):
        return types.ElicitResult(action="decline")

    async def rooted(*_):
        return types.ListRootsResult.model_validate({"roots": roots})

    options = {"mode": mode}
    options["client_info"] = types.Implementation(**(info or {"name": "agent", "version": "1.0.0"}))
    if sampling:
        options["sampling_callback"] = sampled
    if elicitation:
        options["elicitation_callback"] = elicited
    if roots:
        options["list_roots_callback"] = rooted
    async with httpx2.AsyncClient(headers=headers or {}, verify=verify, timeout=10, auth=auth) as http:
        opened = sse_client(url) if transport == "sse" else streamable_http_client(url, http_client=http)
        async with Client(opened, **options) as client:
            if listing:
                await client.list_tools()
            if prompts:
                await client.list_prompts()
            for name, arguments in calls:
                with contextlib.suppress(Exception):
                    await client.call_tool(name, arguments)
                if pause:
                    await asyncio.sleep(pause)
            if again:
                await client.list_tools()
            await asyncio.sleep(0.05)
