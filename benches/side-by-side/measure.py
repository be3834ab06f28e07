"""Measures pgveil beside a direct connection and PgBouncer, on one Postgres.

Postgres is the demo's (`pgveil demo --json`), with pgbench's tables loaded into it.
Contenders take turns, so that what else the machine does hits all alike; the table
shows medians over the rounds, and medians of each round's own ratios.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time

import contenders
import pgbench

# Clients that wait: Postgres takes a hundred sessions unless configured.
IDLE = 64
MODES = ("simple", "extended", "prepared")
# Wide rows without a masked column and with one, as text and binary.
STREAMS = {
    "copy text": "copy (select * from pgbench_accounts) to stdout",
    "copy binary": "copy (select * from pgbench_accounts) to stdout (format binary)",
    "select": "select * from pgbench_accounts",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--pgveil", required=True, type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("seconds", type=int, nargs="?", default=5, help="of each run")
    parser.add_argument("--scale", type=int, default=10)
    parser.add_argument("--clients", type=numbers, default=[1, 16, 64], help="as in 1,16,64")
    parser.add_argument("--out", type=pathlib.Path, default="target/side-by-side.json")
    options = parser.parse_args()

    with contextlib.ExitStack() as stack:
        demo = stack.enter_context(contenders.started(
            [options.pgveil.resolve(), "demo", "--json"], subprocess.PIPE))
        shown = json.loads(demo.stdout.readline())
        pgbench.load(shown["admin"], options.scale)
        found = contenders.all_of(stack, options.pgveil.resolve(), shown["upstream"])
        check_masked(found[-1].dsn)
        version = pgbench.output(["psql", "-XAtc", "show server_version", shown["upstream"]])
        report = {
            "machine": {"cpus": os.cpu_count(), "kernel": platform.release(),
                        "cpu": cpu_name(), "postgres": version.strip()},
            "rounds": options.rounds, "seconds": options.seconds, "scale": options.scale,
            "reads": reads(options, found),
            "connects": connects(options, found),
            "wide": wide(options, found),
            "idle": {it.name: pgbench.idle(it, IDLE) for it in found if it.pid},
            "streams": streams(options, found),
        }
    print(file=sys.stderr)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    show(report)
    print(f"written to {options.out}")


def numbers(text):
    return [int(it) for it in text.split(",")]


def check_masked(proxied):
    """A ratio of something that masks nothing would say nothing."""
    got = pgbench.output(["psql", "-XAtc", "select count(*), count(filler) "
                          "from pgbench_accounts where aid <= 10", proxied]).strip()
    if got != "10|0":
        sys.exit(f"pgbench_accounts.filler is not masked: {got}")


def turns(options, found, measure):
    """Each contender's medians, and those of its ratios to the others in a round."""
    rounds = []
    for _ in range(options.rounds):
        rounds.append({it.name: measure(it) for it in found})
        print(".", end="", file=sys.stderr, flush=True)
    figures = {}
    for it in found:
        own = [one[it.name] for one in rounds]
        figures[it.name] = {key: statistics.median(one[key] for one in own) for key in own[0]}
        for other in found[:-1]:
            if other is not it and "tps" in own[0]:
                figures[it.name][f"to_{other.name}"] = statistics.median(
                    one[it.name]["tps"] / one[other.name]["tps"] for one in rounds)
    return figures


def reads(options, found):
    """pgbench -S: one row by its key, of a table with a masked column."""
    return [{"mode": mode, "clients": clients,
             **turns(options, found, lambda it, mode=mode, clients=clients:
                     pgbench.run(it, mode, clients, options.seconds))}
            for mode in MODES for clients in options.clients]


def connects(options, found):
    """A connection, its SCRAM exchange and one row, again and again."""
    return turns(options, found, lambda it: pgbench.run(it, "simple", 4, options.seconds, "-C"))


def wide(options, found):
    """A join with ten columns, whose text is new each time."""
    return turns(options, found, lambda it: pgbench.run(
        it, "simple", 16, options.seconds, "-D", f"scale={options.scale}", script=pgbench.WIDE))


def streams(options, found):
    """All rows of the table with a masked column, read and thrown away."""
    return {name: turns(options, found, lambda it, sql=sql: stream(it, sql))
            for name, sql in STREAMS.items()}


def stream(contender, sql):
    before, began = contender.cpu(), time.monotonic()
    # FETCH_COUNT keeps psql from holding all rows; it is the same for all.
    subprocess.run(["psql", "-X", "-q", "-At", "-v", "FETCH_COUNT=10000", "-c", sql,
                    contender.dsn], stdout=subprocess.DEVNULL, check=True)
    took = time.monotonic() - began
    return {"tps": 1 / took, "seconds": took, "cpu_s": contender.cpu() - before,
            "peak_mib": contender.memory("VmHWM") / 1024}


def cpu_name():
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
        if found:
            return found.group(1)
    return platform.machine()


def show(report):
    machine = report["machine"]
    print(f"Postgres {machine['postgres']}, {machine['cpus']} cpus ({machine['cpu']}); "
          f"medians of {report['rounds']} rounds of {report['seconds']} s")
    heading = (f"{'to direct':>10} {'to pgbouncer':>13}")
    print(f"\npgbench -S, scale {report['scale']}\n{'mode':<9} {'clients':>7} {'':<10} "
          f"{'tps':>8} {heading} {'p50 us':>7} {'p99 us':>7} {'cpu us':>7}")
    for one in report["reads"]:
        rows(f"{one['mode']:<9} {one['clients']:>7}", one)
    print(f"\npgbench -S -C, 4 clients: a connection for each\n{'':<10} {'tps':>8} {heading} "
          f"{'p50 us':>7} {'p99 us':>7} {'cpu us':>7}")
    rows("", report["connects"])
    print(f"\na join with ten columns, each text new, 16 clients\n{'':<10} {'tps':>8} {heading} "
          f"{'p50 us':>7} {'p99 us':>7} {'cpu us':>7}")
    rows("", report["wide"])
    print(f"\n{IDLE} clients that have asked once and wait: KiB of the proxy for each")
    for name, it in report["idle"].items():
        print(f"{name:<10} {it['kib']:>8.0f}")
    print(f"\n{report['scale'] * 100_000:,} rows of pgbench_accounts\n{'':<12} {'':<10} "
          f"{'seconds':>8} {heading} {'cpu s':>7} {'peak MiB':>9}")
    for name, one in report["streams"].items():
        for who, it in one.items():
            print(f"{name:<12} {who:<10} {it['seconds']:>8.2f} {ratios(it)} "
                  f"{it['cpu_s']:>7.2f} {it['peak_mib']:>9.0f}")


def rows(first, figures):
    for name, it in figures.items():
        if isinstance(it, dict):
            print(f"{first} {name:<10} {it['tps']:>8,.0f} {ratios(it)} {it['p50_us']:>7.0f} "
                  f"{it['p99_us']:>7.0f} {it['cpu_us']:>7.1f}".lstrip())


def ratios(it):
    shown = [f"{it[key]:.2f}" if key in it else "" for key in ("to_direct", "to_pgbouncer")]
    return f"{shown[0]:>10} {shown[1]:>13}"


if __name__ == "__main__":
    main()
