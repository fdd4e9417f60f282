"""The corpus of walls: its cases, a throw-away cluster to put them in, and psql to do it with.

Roles belong to the whole cluster, so one case is there at a time: its database and its roles go before the next comes.
"""

import contextlib
import os
import pathlib
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
import tomllib

HERE = pathlib.Path(__file__).parent
ADMIN = "walls_admin"
KEYS = {"sentence", "source", "base", "role", "sound", "mutant", "witness", "object", "since", "until", "shows", "context", "tells", "beside"}
NEEDED = {"sentence", "source", "base", "sound", "mutant", "witness", "object", "shows"}


class Case:
    """A wall with one defect, and its sound twin, on a base."""

    def __init__(self, path):
        self.id = path.stem
        facts = tomllib.loads(path.read_text())
        wrong = (set(facts) - KEYS) | (NEEDED - set(facts))
        if wrong:
            raise SystemExit(f"{path.name}: unknown or missing keys: {', '.join(sorted(wrong))}")
        base = tomllib.loads((HERE / "bases" / f"{facts['base']}.toml").read_text())
        self.base_sql = (HERE / "bases" / f"{facts['base']}.sql").read_text()
        self.base, self.owner, self.bind, self.control = facts["base"], base["owner"], base["bind"], base["control"]
        self.role = facts.get("role", base["role"])
        self.rows = base["rows"]
        self.sentence, self.object, self.shows = facts["sentence"], facts["object"], facts["shows"]
        self.sides = {"mutant": facts["mutant"], "sound": facts["sound"]}
        self.witness, self.beside = facts["witness"], facts.get("beside")
        self.tells = facts.get("tells", base["tells"])
        self.bound = facts.get("context", "own") == "own"
        self.since, self.until = int(facts.get("since", 14)), int(facts.get("until", 99))


    def fits(self, major):
        """True where a server of this major version can have it, and it is a defect there."""
        return self.since <= major <= self.until


def cases(wanted=()):
    """Every case, or those named; an unknown name is an error."""
    found = {path.stem: path for path in sorted(HERE.glob("*.toml"))}
    unknown = [name for name in wanted if name not in found]
    if unknown:
        raise SystemExit(f"no such wall: {', '.join(unknown)}")
    return [Case(found[name]) for name in (wanted or found)]


class Cluster:
    """A cluster from installed server binaries, gone when the block ends."""

    def __enter__(self):
        bin_dir = pathlib.Path(os.environ.get("PARTYWALL_PG_BIN") or subprocess.check_output(["pg_config", "--bindir"], text=True).strip())
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="walls-"))
        user = None
        if os.geteuid() == 0:
            # The server refuses root.
            user = pwd.getpwnam("postgres")
            os.chown(self.home, user.pw_uid, user.pw_gid)
        self.become = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        data = self.home / "data"
        quiet = {"stdout": subprocess.DEVNULL, "cwd": self.home, **self.become}
        subprocess.run([bin_dir / "initdb", "-D", data, "-U", ADMIN, "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"], check=True, **quiet)
        settings = {"fsync": "off", "wal_level": "logical", "max_replication_slots": "4", "listen_addresses": "127.0.0.1", "unix_socket_directories": self.home}
        options = " ".join(f"-c {key}={value}" for key, value in settings.items())
        self.stop = [bin_dir / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"]
        start = [bin_dir / "pg_ctl", "-D", data, "-o", f"-p {self.port} {options}", "-l", self.home / "log", "-w", "start"]
        subprocess.run(start, check=True, **quiet)
        version = self.psql("postgres", "SHOW server_version_num", options=["-At", "-q"])
        self.major = int(version) // 10000
        return self

    def __exit__(self, *_):
        subprocess.run(self.stop, stdout=subprocess.DEVNULL, cwd=self.home, **self.become)
        shutil.rmtree(self.home, ignore_errors=True)

    def url(self, database, role=ADMIN):
        return f"postgres://{role}@127.0.0.1:{self.port}/{database}"

    def command(self, database, role=ADMIN, options=()):
        # Not a URL: role names hold spaces and quotes.
        return ["psql", "-X", "-h", str(self.home), "-p", str(self.port), "-U", role, "-d", database, *options]

    def psql(self, database, sql, role=ADMIN, options=(), strict=True):
        """What psql answers to `sql`, errors and notices included; with `strict` the first error ends it all."""
        stop = ["-v", "ON_ERROR_STOP=1"] if strict else ["-v", "ON_ERROR_ROLLBACK=on"]
        done = subprocess.run(self.command(database, role, [*stop, *options]), input=sql, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if strict and done.returncode:
            raise RuntimeError(done.stdout.strip())
        return done.stdout

    @contextlib.contextmanager
    def put(self, case, side):
        """A fresh database with the base and one side of the case."""
        self.psql("postgres", "CREATE DATABASE wall")
        try:
            self.psql("wall", case.base_sql, options=["-q", "-1"])
            owner = case.owner.replace('"', '""')
            self.psql("wall", f'SET ROLE "{owner}";\n{case.sides[side]}', options=["-q"])
            yield "wall"
        finally:
            roles = "SELECT format('DROP ROLE %I', rolname) FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> current_user \\gexec"
            slots = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots;"
            self.psql("postgres", f"{slots} DROP DATABASE wall WITH (FORCE);\n{roles}", options=["-q"])

    def others(self, case):
        """Every row of every table that belongs to the other tenant."""
        select = f"""SELECT format('SELECT %L, wall_row::text FROM %s AS wall_row WHERE wall_row::text ~ %L ORDER BY 1, 2', oid::regclass, oid::regclass, '{case.rows}')
            FROM pg_class WHERE relkind = 'r' AND relnamespace::regnamespace::text !~ '^(pg_|information_schema)' ORDER BY 1 \\gexec"""
        return self.psql("wall", select, options=["-At", "-q"])

    def perceive(self, case):
        """What the application role perceives by the witness, its own rows by the control, and whether it changed another's."""
        bind = f"{case.bind};" if case.bound else ""
        control = self.psql("wall", f"BEGIN; {case.bind}; {case.control}; COMMIT;", case.role, strict=False)
        before = self.others(case)
        with self.neighbour(case):
            seen = self.psql("wall", f"BEGIN;\n{bind}\n{case.witness}\n;COMMIT;", case.role, strict=False)
        seen = "\n".join(line for line in seen.splitlines() if not re.match(r"LINE \d|\s*\^", line))
        return seen, control, self.others(case) != before

    @contextlib.contextmanager
    def neighbour(self, case):
        """Another session, of the owner, that does `beside` and stays until the witness is through."""
        if not case.beside:
            yield
            return
        command = self.command("wall", options=["-q", "-At"])
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as session:
            session.stdin.write(f"SELECT 'ready';\n{case.beside}\n;\n")
            session.stdin.flush()
            session.stdout.readline()
            # What follows `ready` has begun by then.
            time.sleep(0.2)
            yield
            session.stdin.close()
