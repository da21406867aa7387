"""Two hosts share one run, as the README describes. Both are this machine here, with a folder and a port each."""

import json
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATHS = [ROOT / "tests" / "conformance" / f"test_{name}.py" for name in ("generate_square_subsequent_mask", "ledger")]


@pytest.fixture
def hosts(tmp_path):
    """[(folder, port), ...] of two servers that wait for work."""
    with ExitStack() as stack:
        found = []
        for name in ("one", "other"):
            folder, port = tmp_path / name, _free_port()
            folder.mkdir()
            command = [sys.executable, "-m", "execnet.script.socketserver", f"127.0.0.1:{port}"]
            server = stack.enter_context(subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL))
            stack.callback(server.kill)
            found.append((folder, port))
        yield found


def _free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def _wait_for(port):
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(port)


def test_two_hosts_share_one_run(hosts, tmp_path):
    record = tmp_path / "record.json"
    command = [sys.executable, "-m", "pytest", *PATHS, "-v", "-p", "no:cacheprovider", f"--report={record}"]
    command += ["-W", "ignore:The --rsyncdir:DeprecationWarning", "-d", f"--rsyncdir={ROOT}"]
    for folder, port in hosts:
        _wait_for(port)
        command.append(f"--tx=socket=127.0.0.1:{port}//chdir={folder}")
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    tests = json.loads(record.read_text())["tests"]
    done = [line for line in run.stdout.splitlines() if line.startswith(("[gw0]", "[gw1]")) and "::" in line]
    assert len(done) == len(tests) > 30  # no test ran twice
    assert {line.split("]")[0] for line in done} == {"[gw0", "[gw1"}
    assert all((folder / ROOT.name / "conftest.py").exists() for folder, _ in hosts)
