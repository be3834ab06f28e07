"""pgbench, and what it says."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time


def binary():
    found = shutil.which("pgbench")
    if found:
        return found
    installed = pathlib.Path("/usr/lib/postgresql").glob("*/bin/pgbench")
    return str(max(installed, key=lambda path: int(path.parts[4])))


def output(command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed: {done.stderr}")
    return done.stdout


def load(admin, scale):
    """pgbench's own tables, readable to the proxy's role."""
    output([binary(), "-i", "-q", "-s", scale, admin])
    output(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", admin,
            "-c", "grant select on all tables in schema public to pgveil"])


# As many columns as TPC-H's first query has, over few rows; each text of it is another.
WIDE = pathlib.Path(__file__).with_name("wide.sql")


def run(contender, mode, clients, seconds, *more, script=None):
    """Point reads, or a script of one's own, for some seconds: transactions a second,
    microseconds of latency (median and 99th percentile) and of the process's CPU for each."""
    what = ["-S"] if script is None else ["-f", script]
    with tempfile.TemporaryDirectory() as folder:
        before = contender.cpu()
        text = output([binary(), "-n", *what, "-M", mode, "-c", clients,
                       "-j", min(clients, os.cpu_count() or 1), "-T", seconds,
                       "-l", "--log-prefix", f"{folder}/log", "--sampling-rate", "0.2",
                       *more, contender.dsn])
        used = contender.cpu() - before
        # The third field of a line is the latency in microseconds.
        latencies = sorted(int(line.split()[2]) for path in pathlib.Path(folder).iterdir()
                           for line in path.read_text().splitlines())
    failed = re.search(r"number of failed transactions: (\d+)", text)
    if failed and int(failed.group(1)):
        sys.exit(f"transactions failed:\n{text}")
    transactions = float(re.search(r"actually processed: (\d+)", text).group(1))
    return {
        "tps": float(re.search(r"tps = ([\d.]+)", text).group(1)),
        "p50_us": percentile(latencies, 50),
        "p99_us": percentile(latencies, 99),
        "cpu_us": used * 1e6 / transactions,
    }


def idle(contender, clients):
    """KiB of the process that a client takes which has asked once and then waits."""
    before = contender.memory("VmRSS")
    running = subprocess.Popen([binary(), "-n", "-S", "-c", str(clients), "-j", "1",
                                "-R", str(clients), "-T", "4", contender.dsn],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(3)
    after = contender.memory("VmRSS")
    if running.wait() != 0:
        sys.exit(f"{contender.name}: {clients} clients could not connect")
    return {"kib": (after - before) / clients}


def percentile(ordered, percent):
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]
