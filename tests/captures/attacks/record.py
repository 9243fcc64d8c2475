"""Records attacks and their benign twins with real software, and writes index.json.

usage, as root, with what `cargo xtask setup` installs, dnsmasq, nginx and dig (Debian: dnsmasq-base nginx-light bind9-dnsutils):

    target/peers/venv/bin/python tests/captures/attacks/record.py           # all
    target/peers/venv/bin/python tests/captures/attacks/record.py TD-01     # those of some rules

cases.py says what happens in each; stage.py is where.
"""

import gzip
import importlib.metadata
import json
import pathlib
import sys

import cases
import handshakes  # noqa: F401: adds its cases
import logins  # noqa: F401
import misbehaving  # noqa: F401
import modern  # noqa: F401
import series  # noqa: F401
from stage import PEERS, Stage, sh

HERE = pathlib.Path(__file__).parent


def software():
    """What was used, in which version."""
    def npm(name):
        return json.loads((PEERS / f"node_modules/{name}/package.json").read_text())["version"]

    def said(*args):
        told = sh(*args)
        return (told.stdout + told.stderr).decode().split("\n")[0]

    python = {name: importlib.metadata.version(name) for name in ["mcp", "uvicorn", "starlette", "httpx2"]}
    return {
        "python": ", ".join(f"{name} {version}" for name, version in python.items()),
        "typescript": f"@modelcontextprotocol/sdk {npm('@modelcontextprotocol/sdk')} and {npm('sdk-1.30')}",
        "dnsmasq": " ".join(said("dnsmasq", "--version").split()[:3]),
        "nginx": said("nginx", "-v").split(": ")[1],
        "openssl": " ".join(said("openssl", "version").split()[:2]),
        "curl": " ".join(said("curl", "--version").split()[:2]),
        "dig": said("dig", "-v"),
    }


def packed(file):
    """Captures of many calls are kept compressed."""
    if file.stat().st_size < 100_000:
        return file
    small = file.with_name(file.name + ".gz")
    small.write_bytes(gzip.compress(file.read_bytes(), 9, mtime=0))
    file.unlink()
    return small


def main():
    wanted = set(sys.argv[1:])
    index_file = HERE / "index.json"
    known = json.loads(index_file.read_text())["recordings"] if index_file.exists() else []
    kept = [one for one in known if wanted and one["rule"] not in wanted]
    made = []
    stage = Stage()
    try:
        for case in cases.ALL:
            if wanted and case.rule not in wanted:
                continue
            file = HERE / f"{case.file}.pcap"
            for old in HERE.glob(f"{case.file}.pcap*"):
                old.unlink()
            keys = HERE / f"{case.file}.keylog"
            keys.unlink(missing_ok=True)
            stage.keylog = keys
            print(f"{case.file}: {case.title}", flush=True)
            try:
                with stage.recording(file):
                    case.play(stage)
            finally:
                stage.clear()
                stage.resolver(cases.RESOLVER)
                stage.hosts("")
            file = packed(file)
            one = {"rule": case.rule, "kind": case.kind, "title": case.title, "capture": file.name}
            one |= {"keys": keys.name} if keys.exists() else {}
            one |= {"with": case.made, "pins": case.pins, "fires": case.fires}
            one |= {"config": case.config} if case.config else {}
            one |= {"not": case.but} if case.but else {}
            made.append(one)
    finally:
        stage.close()
    order = {case.file: n for n, case in enumerate(cases.ALL)}
    whole = sorted(kept + made, key=lambda one: order.get(one["capture"].split(".")[0], 0))
    # One recording a line: a change of one shows as one line.
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in whole)
    index_file.write_text(f'{{"software": {json.dumps(software(), indent=1)},\n"recordings": [\n{lines}\n]}}\n')


main()
