"""`stepwell dev` as a process of its own, which can be killed and started again on the same file."""

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .problem import DemoFailed

ORDERS = Path(__file__).parents[1]
STEPWELL = Path(sys.executable).with_name("stepwell")
START_SECONDS = 15.0
STOP_SECONDS = 25.0
SERVES = re.compile(r"^Stepwell serves .* at (http://\S+) on ", re.MULTILINE)


class Shop:
    """The shop's process, one life after the other. `pids` are those of its lives; what it says goes into `log`."""

    def __init__(self, folder: Path) -> None:
        self.db = folder / "dev.db"
        self.diary = folder / "diary.ndjson"
        self.log = folder / "dev.log"
        self.url = ""
        self.pids: list[int] = []
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it on a free port; on return it is serving."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("STEPWELL_")}
        env |= {"ORDERS_DIARY": str(self.diary), "PYTHONUNBUFFERED": "1"}
        with self.log.open("ab") as log:
            said = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                *(STEPWELL, "dev", ORDERS, "--port", "0", "--db", self.db),
                env=env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pids.append(self._process.pid)
        self.url = await self._address(said)

    async def kill(self) -> None:
        """End it as a power cut does."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int | None:
        """Ask it to stop; its exit code, None where it never ran or was over already."""
        if self._process is None or self._process.returncode is not None:
            return None
        return await self._end(signal.SIGTERM)

    def check_alive(self) -> None:
        """DemoFailed if it ended by itself."""
        if self._process is None or self._process.returncode is not None:
            code = None if self._process is None else self._process.returncode
            raise DemoFailed(f"stepwell dev ended by itself with code {code}")

    def last_words(self) -> str:
        """The end of what it said."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])

    async def doctor(self) -> tuple[int, str]:
        """What `stepwell store doctor` says of the file that is left: exit code and text."""
        arguments: Sequence[str | Path] = (STEPWELL, "store", "doctor", "--store", self.db)
        done = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
        told, _ = await done.communicate()
        return done.returncode or 0, told.decode(errors="replace").strip()

    async def _address(self, said: int) -> str:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            self.check_alive()
            found = SERVES.search(self.log.read_bytes()[said:].decode(errors="replace"))
            if found is not None:
                return found[1]
            await asyncio.sleep(0.05)
        raise DemoFailed(f"stepwell dev doesn't serve after {START_SECONDS:g} seconds")

    async def _end(self, how: signal.Signals) -> int | None:
        process = self._process
        if process is None:
            return None
        if process.returncode is None:
            process.send_signal(how)
        try:
            return await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError as error:
            raise DemoFailed(f"stepwell dev doesn't end within {STOP_SECONDS:g} seconds of {how.name}") from error
