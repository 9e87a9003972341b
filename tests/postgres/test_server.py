"""The Postgres that tests run against: another process's port doesn't hold it up, and what didn't start leaves nothing."""

import socket
from pathlib import Path

import asyncpg
import pytest
from postgres_server import DiedError, Postgres, free_port, server


def processes_of(home: Path) -> list[str]:
    """The commands that name this directory."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it has ended meanwhile
        if str(home) in command:
            found.append(command)
    return found


async def test_a_taken_port_is_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another process took the port since it was found free, the server takes another one, and is the one that answers."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        ports = iter([other.getsockname()[1]])
        monkeypatch.setattr("postgres_server.free_port", lambda: next(ports, None) or free_port())
        with server() as postgres:
            assert postgres.port != other.getsockname()[1]
            connection = await asyncpg.connect(postgres.dsn)
            assert await connection.fetchval("show data_directory") == str(postgres.data)
            await connection.close()
            home = postgres.home
            assert len(processes_of(home)) >= 2
    assert processes_of(home) == []


def test_it_comes_back_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was killed is started again on the port that its users know, also where that is free only after a while."""
    with server() as postgres:
        port, start, died = postgres.port, postgres._start, 0
        backends = postgres._orphans()
        postgres.kill()
        assert backends
        assert not any(Path(f"/proc/{pid}/exe").exists() for pid in backends)
        other = socket.create_server(("127.0.0.1", port))

        def tried() -> None:
            nonlocal died
            try:
                start()
            except DiedError:
                died += 1
                other.close()
                raise

        monkeypatch.setattr(postgres, "_start", tried)
        postgres.start()
        assert (died, postgres.port) == (1, port)


def test_what_did_not_start_leaves_nothing(tmp_path: Path) -> None:
    """A server that dies while it starts says why, and leaves neither itself nor its guard behind."""
    home = tmp_path / "home"
    home.mkdir()
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o011)
    postgres = Postgres(home, max_connections="nonsense")
    postgres.initdb()
    with pytest.raises(DiedError, match="max_connections"):
        postgres.start()
    assert postgres.process is None
    assert processes_of(home) == []
