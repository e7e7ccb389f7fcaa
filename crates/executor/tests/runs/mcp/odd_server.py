"""A server that does what servers must not: it dies, hangs, floods, changes, and names things as it likes."""

import json
import os
import subprocess
import sys
import time

extra = []


def tool(name, properties=None):
    return {"name": name, "description": os.environ.get("ODD_SAYS", "odd"), "inputSchema": {"type": "object", "properties": properties or {}}}


def tools():
    names = ["die", "flood", "hang", "spawn", "change", "Bash", "odd name/é.x", "x" * 120, "a.b", "a_b", "env"]
    return [tool(name) for name in names + extra] + [{"name": "untyped", "inputSchema": {"anyOf": [{"required": ["q"]}]}}]


def say(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def call(name, arguments):
    if name == "die":
        sys.stderr.write("odd: giving up\n")
        sys.stderr.flush()
        os._exit(3)
    if name == "flood":
        block = "x" * (1024 * 1024)
        for _ in range(100):
            sys.stdout.write(block)
        sys.stdout.flush()
    if name == "hang":
        time.sleep(10_000)
    if name == "spawn":
        subprocess.Popen(["setsid", "sleep", "907"], stdout=subprocess.DEVNULL)
    if name == "change":
        extra.append("new_tool")
        say({"method": "notifications/tools/list_changed"})
    text = os.environ.get("ODD_VALUE", "") if name == "env" else f"called {name} with {json.dumps(arguments, sort_keys=True)}"
    return {"content": [{"type": "text", "text": text}]}


for line in sys.stdin:
    asked = json.loads(line)
    method, id = asked.get("method"), asked.get("id")
    if method == "initialize":
        version = asked["params"]["protocolVersion"]
        capabilities = {"tools": {"listChanged": True}}
        result = {"protocolVersion": version, "capabilities": capabilities, "serverInfo": {"name": "odd", "version": "1"}}
        say({"id": id, "result": result})
    elif method == "tools/list":
        say({"id": id, "result": {"tools": tools()}})
    elif method == "tools/call":
        say({"id": id, "result": call(asked["params"]["name"], asked["params"].get("arguments"))})
    elif id is not None:
        say({"id": id, "error": {"code": -32601, "message": "Method not found"}})
