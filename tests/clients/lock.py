"""Write a client's requirements.lock: every package that pip resolves, each pinned by version and hash.

usage: lock.py CLIENT        (a directory here; its requirements.in names what is wanted)

Run with the Python version the lock is for. Packages come from the index pip is set up for; none is named in the lock.
"""

import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

client = Path(__file__).parent / sys.argv[1]
wanted = (client / "requirements.in").read_text()
with tempfile.TemporaryDirectory() as directory:
    report = Path(directory) / "report.json"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--only-binary", ":all:"]
    subprocess.run([*pip, "--report", report, "-r", client / "requirements.in"], check=True)
    resolved = json.loads(report.read_text())["install"]

comments = [line for line in wanted.splitlines() if line.startswith("#")]
lines = [*comments, f"# Locked for CPython {platform.python_version().rsplit('.', 1)[0]} on {platform.machine()} Linux by ../lock.py."]
for package in sorted(resolved, key=lambda package: package["metadata"]["name"].lower()):
    name = package["metadata"]["name"].lower().replace("_", "-")
    lines.append(f"{name}=={package['metadata']['version']} \\")
    lines.append(f"    --hash=sha256:{package['download_info']['archive_info']['hashes']['sha256']}")
(client / "requirements.lock").write_text("\n".join(lines) + "\n")
print(f"{client.name}: {len(resolved)} packages")
