"""The program that runs Postgres in the node's network, where pods reach it by the node's address and must know a password.

It reads one verb a line (start, stop, kill, pause, resume), answers each with a line, and ends, with the server, when its input does.
Addresses outside of loopback authenticate with SCRAM, as a user's Postgres would have it.
"""

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from cluster.harness.postgres_client import connect
from postgres_server import Postgres

RULES = """\
local all all              trust
host  all all 127.0.0.1/32 trust
host  all all 0.0.0.0/0    scram-sha-256
"""


def main(name: str, password: str) -> None:
    """Serve until the input ends; the first line of the output is the port."""
    home = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    postgres = Postgres(home, listen_addresses="*", hba_file=str(home / "rules"))
    verbs = {verb: getattr(postgres, verb) for verb in ("start", "stop", "kill", "pause", "resume")}
    try:
        postgres.initdb()
        (home / "rules").write_text(RULES, encoding="ascii")
        (home / "rules").chmod(0o644)
        postgres.start()
        asyncio.run(_set_password(postgres.dsn, password))
        print(postgres.port, flush=True)
        for line in sys.stdin:
            verbs[line.strip()]()
            print("done", flush=True)
    finally:
        postgres.stop()
        shutil.rmtree(home, ignore_errors=True)


async def _set_password(dsn: str, password: str) -> None:
    connection = await connect(dsn)
    try:
        await connection.execute(f"ALTER ROLE postgres PASSWORD '{password}'")
    finally:
        await connection.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
