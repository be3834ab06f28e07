"""pgbench, and what it says."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile


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


def run(contender, mode, clients, seconds, *more):
    """Point reads for some seconds: transactions a second, microseconds of latency
    (median and 99th percentile) and of the process's CPU for each."""
    with tempfile.TemporaryDirectory() as folder:
        before = contender.cpu()
        text = output([binary(), "-n", "-S", "-M", mode, "-c", clients,
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


def percentile(ordered, percent):
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]
