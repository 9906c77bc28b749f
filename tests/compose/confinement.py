"""What containers of a running system may do, seen from inside them: `python3 confinement.py`. Standard library only.

Users, capabilities, the root's file system, ways out, published ports, secrets, and what the engine's proxy refuses. OUTSIDE
(host:port) is an address that can be reached from this machine but not from within `core`.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

OUTWARD = {
    "api", "curation", "augmentation", "composition", "generation", "inference", "training", "evaluation", "model-server",
}  # fmt: skip
ROOTS = {"docker-proxy", "postgres", "minio-folder"}
"""Run as root, or begin as root."""

INSIDE = r"""
set -u
caps=$(sed -n 's/^CapEff:\s*//p' /proc/1/status); new=$(sed -n 's/^NoNewPrivs:\s*//p' /proc/1/status)
if touch /written 2>/dev/null; then root=writable; rm -f /written; else root=read-only; fi
way=unknown
if command -v bash >/dev/null; then way=inside; if timeout 20 bash -c "exec 3<>/dev/tcp/$1/$2" 2>/dev/null; then way=out; fi; fi
echo "$(sed -n 's/^Uid:\s*\([0-9]*\).*/\1/p' /proc/1/status) $caps $new $root $way"
"""

PROXY = r"""
import json, urllib.error, urllib.request
def ask(method, path):
    request = urllib.request.Request("http://docker-proxy:2375" + path, method=method, data=b"" if method == "POST" else None)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, b""
status, body = ask("GET", "/containers/json?all=true&filters=%7B%22label%22%3A%5B%22multifacet.roles%22%5D%7D")
found = json.loads(body)
own = found[0]["Id"]
print(json.dumps({
    "list": status, "workers": len(found),
    "start what runs": ask("POST", f"/containers/{own}/start")[0],
    "create": ask("POST", "/containers/create")[0], "stop": ask("POST", f"/containers/{own}/stop")[0],
    "exec": ask("POST", f"/containers/{own}/exec")[0], "inspect": ask("GET", f"/containers/{own}/json")[0],
    "remove": ask("DELETE", f"/containers/{own}")[0], "images": ask("GET", "/images/json")[0],
    "old version": ask("POST", f"/v1.23/containers/{own}/start")[0],
}))
"""


def docker(*arguments: str, given: str | None = None, check: bool = True) -> str:
    ran = subprocess.run(["docker", *arguments], input=given, capture_output=True, text=True, timeout=300, check=False)
    if check and ran.returncode:
        sys.exit(f"docker {' '.join(arguments)}: {ran.stderr.strip()}")
    return ran.stdout + ran.stderr


def main() -> int:
    faults = []
    secrets = Path(os.environ["SECRETS_FOLDER"])
    planted = {path.name: path.read_text().strip() for path in secrets.iterdir() if path.read_text().strip()}
    planted.pop("s3_access_key")  # a user's name
    ids = docker("compose", "ps", "--all", "--quiet").split()
    found = json.loads(docker("inspect", *ids))
    host, _, port = os.environ.get("OUTSIDE", "").partition(":")
    if not port.isdecimal():
        sys.exit(
            "set OUTSIDE=host:port to an address outside that this machine reaches, to try the ways out of the containers"
        )
    try:
        with socket.create_connection((host, int(port)), timeout=30) as reached:
            address = reached.getpeername()[0]
    except OSError as error:
        sys.exit(f"OUTSIDE={host}:{port} cannot be reached from here ({error}); name an address that can")
    print(
        f"{'service':<16}{'user':>6} {'capabilities':<17}{'gains none':<11}{'root':<10}{'way':<7}{'health':<10}{'ports'}"
    )
    for container in sorted(found, key=lambda item: item["Name"]):
        service = container["Config"]["Labels"]["com.docker.compose.service"]
        state = container["State"]
        ports = sorted(
            f"{bound['HostIp']}:{bound['HostPort']}"
            for bindings in (container["NetworkSettings"]["Ports"] or {}).values()
            for bound in bindings or []
        )
        text = json.dumps(container) + docker("logs", container["Id"])
        faults += [f"{service} shows the secret {name}" for name, value in planted.items() if value in text]
        faults += [f"{service} publishes {port}" for port in ports if not port.startswith("127.0.0.1:")]
        if ports and service not in {"api", "minio", "grafana"}:
            faults.append(f"{service} publishes {', '.join(ports)}")
        limits = container["HostConfig"]
        if not (limits["Memory"] and limits["PidsLimit"]):
            faults.append(f"{service} has no limit of memory or processes")
        if not state["Running"]:
            if state["ExitCode"] or service not in {"migrate", "bucket-init", "minio-folder"}:
                faults.append(f"{service} has ended with {state['ExitCode']}")
            continue
        user, capabilities, new, root, way = docker(
            "exec", "--interactive", container["Id"], "sh", "-s", address, port, given=INSIDE
        ).split()
        health = state.get("Health", {}).get("Status", "none")
        print(f"{service:<16}{user:>6} {capabilities:<17}{new:<11}{root:<10}{way:<7}{health:<10}{' '.join(ports)}")
        if service not in ROOTS and (user != "10001" or int(capabilities, 16)):
            faults.append(f"{service} runs as {user} with capabilities {capabilities}")
        if new != "1" or root != "read-only":
            faults.append(f"{service}: no-new-privileges {new}, root {root}")
        if way != ("out" if service in OUTWARD else "inside"):
            faults.append(f"{service} leads {way}")
        if health != "healthy" and service != "minio":
            faults.append(f"{service} is {health}: {state.get('Health', {}).get('Log', [])[-1:]}")
    told = json.loads(docker("compose", "exec", "-T", "autoscaler", "python", "-c", PROXY))
    print(f"the engine behind its proxy: {told}")
    allowed = {"list": {200}, "start what runs": {304}}
    faults += [
        f"the engine's proxy answers {what} with {status}"
        for what, status in told.items()
        if what != "workers" and status not in allowed.get(what, {403})
    ]
    for fault in faults:
        print(f"AMISS: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
