"""A process that obeys as Node and a page do, and does one thing wrong: BASE MISBEHAVIOUR."""

import json
import os
import sys
import time
import urllib.request

base, wrong = sys.argv[1:3]
alive = urllib.request.urlopen(f"{base}/alive")
if wrong == "cannot start":
    sys.exit("no display")


def post(header, data=b""):
    body = header if isinstance(header, bytes) else json.dumps(header).encode()
    urllib.request.urlopen(f"{base}/answer", data=body + b"\n" + data).read()


while True:
    command = json.load(urllib.request.urlopen(f"{base}/next"))
    if command is None:
        continue
    match command["command"], wrong:
        case "describe", _:
            post({"version": "1.2.3", "adapter": "", "said": []})
        case "load", _:
            place = "[V:x VerifyEachNodeIsAssignedToAnEp]"
            names = [f"{place}  Node(s) placed on [CPUExecutionProvider]. Number of nodes: 2"]
            names += [f"{place}   Shape (sides)", f"{place}   Conv (conv)"]
            names += [f"{place}  Node(s) placed on [GpuExecutionProvider]. Number of nodes: 4"]
            post({"said": names})
        case "run", "leaves":
            print("out of cells", flush=True)
            os._exit(3)
        case "run", "closes its page":
            alive.close()
            time.sleep(60)
        case "run", "hangs":
            time.sleep(60)
        case "run", "answers garbage":
            post(b"<html>")
        case "run", "answers too little":
            post({"outputs": [{"name": "y", "type": "float32", "dims": [4], "size": 16}],
                  "seconds": 0.1}, b"\0" * 8)  # fmt: skip
        case "run", "refuses":
            post({"error": "Expand: invalid shape"})
        case "run", _:
            (given,) = command["inputs"]
            data = urllib.request.urlopen(f"{base}/file/{given['file']}").read()
            output = {"name": "y", "type": given["type"], "dims": given["dims"], "size": len(data)}
            post({"outputs": [output], "seconds": 0.5, "said": []}, data)
        case _:
            post({})
