"""What is measured beside each other: a direct connection, PgBouncer, pgveil.

All lead to one Postgres, the demo's. pgveil stands in front of it by a policy of its
own that masks pgbench_accounts.filler, so that every statement is rewritten; PgBouncer
by a session pool, as pgveil gives each client a session of its own.
"""

import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

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
        tables: ["public.*"]
        actions: [read]
        tags: { filler: { mask: "null" } }
""",
    "identities.yaml": """\
identities:
  bench: { kind: service, roles: [bench], scram: "VERIFIER" }
""",
}
CONFIG = """\
listen: { address: "127.0.0.1:PORT", max_connections: 1000 }
policies: policies
datasets:
  shop:
    upstream: { host: 127.0.0.1, port: UPSTREAM_PORT, dbname: shop, user: USER, password: { file: upstream-password }, tls: { mode: disable } }
    mask_key: { file: mask-key }
audit: { file: records.jsonl, durability: DURABILITY }
log: { level: warn }
"""
PGBOUNCER = """\
[databases]
shop = host=127.0.0.1 port=UPSTREAM_PORT dbname=shop user=USER password='SECRET'
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = PORT
unix_socket_dir =
auth_type = scram-sha-256
auth_file = FOLDER/users
pool_mode = session
default_pool_size = 150
max_client_conn = 1000
server_reset_query = DISCARD ALL
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
logfile = FOLDER/log
pidfile = FOLDER/pid
"""


class Contender:
    """A way to the database, and the process on it, if any."""

    def __init__(self, name, dsn, pid=None):
        self.name, self.dsn, self.pid = name, dsn, pid

    def cpu(self):
        """Seconds of CPU so far, user's and system's, of all threads (proc(5))."""
        if self.pid is None:
            return 0.0
        stat = pathlib.Path(f"/proc/{self.pid}/stat").read_text()
        fields = stat.rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self, what):
        """VmRSS or VmHWM in KiB (proc(5))."""
        if self.pid is None:
            return 0
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(what + ":"):
                return int(line.split()[1])
        return 0


@contextlib.contextmanager
def started(command, stdout=None, user=None):
    process = subprocess.Popen(list(map(str, command)), stdout=stdout, text=True, user=user)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def all_of(stack, pgveil, upstream):
    """Direct, PgBouncer where this machine has one, and pgveil, whose records are on the
    disk before a statement is sent, or given to the system."""
    folder = pathlib.Path(stack.enter_context(tempdir()))
    found = [Contender("direct", upstream)]
    bouncer = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if bouncer:
        found.append(pgbouncer(stack, bouncer, folder / "pgbouncer", upstream))
    else:
        print("PgBouncer was not found: not compared with", file=sys.stderr)
    # Of its own default, records that survive the machine, and of what survives itself.
    for durability in ("fsync", "flush"):
        found.append(proxy(stack, pgveil, folder / durability, upstream, durability))
    return found


def proxy(stack, binary, folder, upstream, durability):
    parts, port = urllib.parse.urlsplit(upstream), free_port()
    verifier = subprocess.run([binary, "identity", "verifier"], input="bench\n", text=True,
                              capture_output=True, check=True).stdout.strip()
    (folder / "policies").mkdir(parents=True)
    for name, text in POLICY.items():
        (folder / "policies" / name).write_text(text.replace("VERIFIER", verifier))
    (folder / "upstream-password").write_text(urllib.parse.unquote(parts.password))
    (folder / "mask-key").write_text("side-by-side-mask-key")
    (folder / "pgveil.yaml").write_text(
        CONFIG.replace("UPSTREAM_PORT", str(parts.port)).replace("PORT", str(port))
        .replace("USER", parts.username).replace("DURABILITY", durability))
    process = stack.enter_context(started([binary, "serve", "--config", folder / "pgveil.yaml"]))
    wait_for("pgveil", port, process)
    return Contender(f"pgv. {durability}", f"postgresql://bench:bench@127.0.0.1:{port}/shop", process.pid)


def pgbouncer(stack, binary, folder, upstream):
    parts, port = urllib.parse.urlsplit(upstream), free_port()
    folder.mkdir()
    (folder / "users").write_text('"bench" "bench"\n')
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        PGBOUNCER.replace("UPSTREAM_PORT", str(parts.port)).replace("PORT", str(port))
        .replace("USER", parts.username).replace("FOLDER", str(folder))
        .replace("SECRET", urllib.parse.unquote(parts.password)))
    user = None
    if os.getuid() == 0:
        # PgBouncer does not run as root.
        user = pwd.getpwnam("postgres").pw_uid
        for path in (folder, folder / "users", settings):
            os.chown(path, user, -1)
    process = stack.enter_context(started([binary, "-q", settings], user=user))
    wait_for("PgBouncer", port, process)
    return Contender("pgbouncer", f"postgresql://bench:bench@127.0.0.1:{port}/shop", process.pid)


@contextlib.contextmanager
def tempdir():
    with tempfile.TemporaryDirectory() as folder:
        # Whoever runs PgBouncer must get to its own files.
        os.chmod(folder, 0o711)
        yield folder


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(name, port, process):
    for _ in range(200):
        if process.poll() is not None:
            sys.exit(f"{name} did not start")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    sys.exit(f"{name} does not answer")
