"""Writes the samples of the rules' pages from the recordings: what is in the packets that an alert names.

usage: python3 tests/captures/attacks/samples.py target/e2e/mcp-monitor      (needs tshark)

The pages are made from mcp-monitor/src/detect/rules/samples.txt; `UPDATE_RULE_PAGES=1 cargo test -p mcp-monitor --lib
rule_pages` writes them anew.
"""

import base64
import json
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
OUT = HERE.parent.parent.parent / "mcp-monitor/src/detect/rules/samples.txt"
LINE, LINES = 150, 14
CHUNK = re.compile(r"^[0-9a-f]{1,4}$")
# Header fields that say nothing about an attack.
DULL = re.compile(r"^(accept|accept-encoding|connection|user-agent|content-length|date|server|cache-control|x-accel-buffering|transfer-encoding|mcp-protocol-version|mcp-session-id):", re.I)
# Rules about such fields.
TELLING = {
    "PV-07": r"^(content-length|transfer-encoding):", "DG-09": r"^mcp-(protocol-version|session-id):",
    **dict.fromkeys(["SS-01", "SS-02", "SS-04"], r"^mcp-session-id:"),
}


def alerts(binary, one):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as pins:
        pins.write(json.dumps(one["pins"]).replace("${folder}", str(HERE)) if one["pins"] else "")
        pins.flush()
        args = [binary, "replay", *(["--pins", pins.name] if one["pins"] else [])]
        args += ["--keylog", str(HERE / one["keys"])] if "keys" in one else []
        config = pathlib.Path(pins.name).with_suffix(".config")
        if "config" in one:
            config.write_text(json.dumps(one["config"]).replace("${folder}", str(HERE)))
            args += ["--config", str(config)]
        told = subprocess.run([*args, str(HERE / one["capture"])], capture_output=True, text=True, check=False).stdout
        config.unlink(missing_ok=True)
    return [alert for alert in map(json.loads, told.splitlines()) if alert["rule"] == one["rule"]]


def tshark(file, number, *fields):
    args = ["tshark", "-r", str(HERE / file), "-Y", f"frame.number=={number}", *fields]
    return subprocess.run(args, capture_output=True, text=True, check=True).stdout.rstrip("\n")


def dull(rule, line):
    telling = TELLING.get(rule)
    return DULL.match(line) and not (telling and re.match(telling, line, re.I))


def shortened(line, marks):
    """The part of a long line that has one of the words an alert quotes."""
    if len(line) <= LINE:
        return line
    places = [line.find(mark) for mark in marks]
    place = next((at for at in places if at >= 0), 0)
    start = max(0, min(place - LINE // 2, len(line) - LINE))
    part = line[start:start + LINE]
    return ("…" if start else "") + part + ("…" if start + LINE < len(line) else "")


def opened(token):
    """Header and claims of a JSON Web Token."""
    parts = token.group().split(".")[:2]
    return ".".join(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode() for part in parts) + ".…"


def masked(text):
    return "".join(c if c.isprintable() or c == "\n" else f"\\u{{{ord(c):x}}}" for c in text)


def sample(one, alert):
    words = re.findall(r"[\w./:-]{4,}", (alert["observed"] or "") + " " + alert["summary"])
    marks = sorted(set(words), key=len, reverse=True)
    lines, texts = [], []
    for number in sorted(alert["evidence"]["packets"])[-2:]:
        payload = bytes.fromhex(tshark(one["capture"], number, "-T", "fields", "-e", "tcp.payload"))
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            text = ""
        if not text.strip() or "keys" in one:
            lines.append(re.sub(r"^\s*\d+\s+[\d.]+\s+", "", tshark(one["capture"], number)))
            continue
        text = re.sub(r"ghp_\w{36}", "ghp_…", text.replace("\r\n", "\n").strip("\n"))
        text = re.sub(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", opened, text)
        # The end of a session repeats the head of its beginning.
        if texts and text.startswith("DELETE ") or text in texts:
            continue
        texts.append(text)
        lines += [shortened(line, marks) for line in text.split("\n") if line and not dull(one["rule"], line) and not CHUNK.match(line) and not line.startswith("<")]
    return masked("\n".join(lines[:LINES]))


def main():
    index = json.loads((HERE / "index.json").read_text())["recordings"]
    out, seen = [], set()
    for one in index:
        if one["kind"] != "attack" or one["rule"] in seen:
            continue
        found = alerts(sys.argv[1], one)
        if found:
            seen.add(one["rule"])
            out.append((one["rule"], f"== {one['rule']} {one['title']} ({one['with']})\n{sample(one, found[0])}\n"))
    OUT.write_text("\n".join(text for _, text in sorted(out)))


main()
