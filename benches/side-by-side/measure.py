"""Measures pgbench -S through pgveil beside a direct connection.

Postgres is the demo's (`pgveil demo --json`); pgbench's tables are loaded into it
and a `pgveil serve` with a policy of its own stands in front: it masks
pgbench_accounts.filler, so every statement is rewritten. Direct and proxied runs
take turns, so that what else the machine does hits both alike; the table shows
medians over the rounds and the median of each round's own ratio.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

MODES = ("simple", "extended", "prepared")
CLIENTS = (1, 16)
POLICY = {
    "classification.yaml": """\
datasets:
  shop:
    unclassified: clear
    tables:
      public.pgbench_accounts: { filler: filler }
""",
    "roles.yaml": """\
roles:
  bench:
    description: Reads accounts without their filler
    grants:
      - dataset: shop
        tables: ["public.pgbench_*"]
        actions: [read]
        tags: { filler: { mask: "null" } }
""",
    "identities.yaml": """\
identities:
  bench: { kind: service, roles: [bench], scram: "VERIFIER" }
""",
}
CONFIG = """\
listen: { address: "127.0.0.1:PORT" }
policies: policies
datasets:
  shop:
    upstream: { host: 127.0.0.1, port: UPSTREAM_PORT, dbname: shop, user: USER, password: { file: upstream-password }, tls: { mode: disable } }
    mask_key: { file: mask-key }
audit: { file: records.jsonl }
log: { level: warn }
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--pgveil", required=True, type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("seconds", type=int, nargs="?", default=5, help="of each run")
    parser.add_argument("--scale", type=int, default=10)
    parser.add_argument("--out", type=pathlib.Path, default="target/side-by-side.json")
    options = parser.parse_args()
    options.pgveil = options.pgveil.resolve()

    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        demo = stack.enter_context(started([options.pgveil, "demo", "--json"], subprocess.PIPE))
        shown = json.loads(demo.stdout.readline())
        load(shown["admin"], options.scale)
        upstream = shown["upstream"]
        port = configure(folder, options.pgveil, upstream)
        proxy = stack.enter_context(
            started([options.pgveil, "serve", "--config", folder / "pgveil.yaml"]))
        proxied = f"postgresql://bench:bench@127.0.0.1:{port}/shop"
        wait_for(port, proxy)
        check_masked(proxied)
        results = measure(options, upstream, proxied, proxy.pid)
        version = output(["psql", "-XAtc", "show server_version", upstream]).strip()

    report = {
        "machine": {"cpus": os.cpu_count(), "kernel": platform.release(),
                    "cpu": cpu_name(), "postgres": version},
        "rounds": options.rounds, "seconds": options.seconds, "scale": options.scale,
        "results": results,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    show(report, options.out)


@contextlib.contextmanager
def started(command, stdout=None):
    process = subprocess.Popen(list(map(str, command)), stdout=stdout, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def pgbench_binary():
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
    output([pgbench_binary(), "-i", "-q", "-s", scale, admin])
    output(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", admin,
            "-c", "grant select on all tables in schema public to pgveil"])


def configure(folder, pgveil, upstream):
    parts = urllib.parse.urlsplit(upstream)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    verifier = subprocess.run([pgveil, "identity", "verifier"], input="bench\n", text=True,
                              capture_output=True, check=True).stdout.strip()
    (folder / "policies").mkdir()
    for name, text in POLICY.items():
        (folder / "policies" / name).write_text(text.replace("VERIFIER", verifier))
    (folder / "upstream-password").write_text(urllib.parse.unquote(parts.password))
    (folder / "mask-key").write_text("side-by-side-mask-key")
    (folder / "pgveil.yaml").write_text(
        CONFIG.replace("UPSTREAM_PORT", str(parts.port)).replace("PORT", str(port))
        .replace("USER", parts.username))
    return port


def wait_for(port, proxy):
    for _ in range(200):
        if proxy.poll() is not None:
            sys.exit("the proxy did not start")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    sys.exit("the proxy does not answer")


def check_masked(proxied):
    """A ratio of something that masks nothing would say nothing."""
    got = output(["psql", "-XAtc", "select count(*), count(filler) from pgbench_accounts "
                  "where aid <= 10", proxied]).strip()
    if got != "10|0":
        sys.exit(f"pgbench_accounts.filler is not masked: {got}")


def measure(options, direct, proxied, pid):
    results = []
    for mode in MODES:
        for clients in CLIENTS:
            rounds = []
            for _ in range(options.rounds):
                alone = run(options, mode, clients, direct)
                before = cpu_seconds(pid)
                through = run(options, mode, clients, proxied)
                used = cpu_seconds(pid) - before
                rounds.append({
                    "direct_tps": alone["tps"], "pgveil_tps": through["tps"],
                    "direct_ms": alone["ms"], "pgveil_ms": through["ms"],
                    "ratio": through["tps"] / alone["tps"],
                    "cpu_us": used * 1e6 / through["transactions"],
                })
                print(".", end="", file=sys.stderr, flush=True)
            medians = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
            results.append({"mode": mode, "clients": clients, **medians, "rounds": rounds})
    print(file=sys.stderr)
    return results


def run(options, mode, clients, dsn):
    text = output([pgbench_binary(), "-n", "-S", "-M", mode, "-c", clients,
                   "-j", min(clients, os.cpu_count() or 1), "-T", options.seconds, dsn])

    def number(pattern):
        return float(re.search(pattern, text).group(1))

    failed = re.search(r"number of failed transactions: (\d+)", text)
    if failed and int(failed.group(1)):
        sys.exit(f"transactions failed:\n{text}")
    return {"tps": number(r"tps = ([\d.]+)"), "ms": number(r"latency average = ([\d.]+)"),
            "transactions": number(r"actually processed: (\d+)")}


def cpu_seconds(pid):
    """utime and stime of a process with all its threads (proc(5))."""
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    fields = stat.rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_name():
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
        if found:
            return found.group(1)
    return platform.machine()


def show(report, out):
    machine = report["machine"]
    print(f"pgbench -S, scale {report['scale']}, Postgres {machine['postgres']}, "
          f"{machine['cpus']} cpus ({machine['cpu']}); "
          f"medians of {report['rounds']} rounds of {report['seconds']} s")
    print(f"{'mode':<9} {'clients':>7} {'direct tps':>11} {'pgveil tps':>11} {'ratio':>6} "
          f"{'direct ms':>10} {'pgveil ms':>10} {'cpu us/tx':>10}")
    for it in report["results"]:
        print(f"{it['mode']:<9} {it['clients']:>7} {it['direct_tps']:>11,.0f} "
              f"{it['pgveil_tps']:>11,.0f} {it['ratio']:>6.2f} {it['direct_ms']:>10.3f} "
              f"{it['pgveil_ms']:>10.3f} {it['cpu_us']:>10.1f}")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
