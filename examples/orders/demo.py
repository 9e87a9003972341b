"""A day in the shop, with a power cut at noon: sends `events.ndjson`, kills the shop in the middle, checks every number.

    python examples/orders/demo.py

It starts `stepwell dev` on this folder, plays the world through the public HTTP API alone, ends the process with SIGKILL while
runs execute, sleep and wait to be retried, starts it again, and compares what has happened with what the file calls for.
Exit code 0: every number is right. What the shop said, its database and its diary are left in `.demo`.
"""

import asyncio
import shutil
import sys
import time
from pathlib import Path

import aiohttp
from proof.api import Api
from proof.day import WANTED_AT_NOON, Day
from proof.diary import Compared, compare
from proof.expected import calls_of, read
from proof.found import Found, find
from proof.problem import DemoFailed
from proof.progress import Progress
from proof.sender import Sender
from proof.shop import Shop
from proof.table import Row, lines_of, rows_of

FILE = Path(__file__).with_name("events.ndjson")
FOLDER = Path(".demo")
SECONDS = 60.0
"""After this long the demo is stuck and says so."""
FAULTS_SHOWN = 20


async def main() -> int:
    """Live through the day, close the shop and tell; 0 if everything is as it should be."""
    began = time.monotonic()
    shop = Shop(_empty(FOLDER))
    try:
        async with asyncio.timeout(SECONDS):
            day, found, rows = await _live_through_the_day(shop)
            faults = await _close(shop)
    except (DemoFailed, OSError, aiohttp.ClientError) as error:
        why = f"{type(error).__name__}: {error}" if str(error) else f"it is not over after {SECONDS:g} seconds"
        print(f"\nThe demo can't go on. {why}\nThe shop's last words:\n{shop.last_words()}")
        return 1
    finally:
        await shop.kill()
    compared = compare(shop.diary.read_text(encoding="utf-8"), found.journal, shop.pids, day.killed_at)
    faults += [*_wrong(rows), *_missed(day), *_off_the_clock(found), *compared.faults]
    print()
    print("\n".join(lines_of(rows)))
    _print_rest(day, found, compared)
    print(f"  {time.monotonic() - began:.1f} seconds\n")
    return _verdict(faults)


async def _live_through_the_day(shop: Shop) -> tuple[Day, Found, list[Row]]:
    lines = read(FILE.read_text(encoding="utf-8"))
    wanted = calls_of(lines)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        day = Day(shop, Api(session, ""), Sender(lines), Progress(len(lines)))
        await day.morning()
        await day.power_cut()
        await day.afternoon(wanted.runs)
        found = await find(day.api, day.sender.tally())
    return day, found, rows_of(wanted, found.calls)


async def _close(shop: Shop) -> list[str]:
    """Stop the shop as one does, then let the doctor look at what it leaves behind; what is wrong with that."""
    faults: list[str] = []
    code = await shop.stop()
    if code != 0:
        faults.append(f"asked to stop, the shop ended with code {code} instead of 0")
    code, told = await shop.doctor()
    if code != 0:
        faults.append(f"stepwell store doctor ends with code {code} and says: {told}")
    return faults


def _wrong(rows: list[Row]) -> list[str]:
    return [f"{row.group}, {row.what}: the file calls for {row.wanted}, found {row.found}" for row in rows if not row.is_right]


def _missed(day: Day) -> list[str]:
    return [f"the kill caught no run {doing}" for doing in WANTED_AT_NOON if not day.caught[doing]]


def _off_the_clock(found: Found) -> list[str]:
    """The file can't tell at which time of day it is sent, but each tick that fired has one run."""
    return [] if found.ticks == found.cron_runs else [f"{found.ticks} cron ticks fired, but {found.cron_runs} runs came of them"]


def _print_rest(day: Day, found: Found, compared: Compared) -> None:
    print(f"\n  {compared.bodies} step bodies ran; the kill cut {compared.repeated} off, and only those ran again")
    print(f"  {day.sender.resent} events were sent again because the kill came before their answer")
    print(f"  cron ticks that fired meanwhile: {found.ticks}")


def _verdict(faults: list[str]) -> int:
    if not faults:
        print("Every number is what the file calls for, and no recorded step ran twice.")
        return 0
    print(f"{len(faults)} things are wrong:")
    for fault in faults[:FAULTS_SHOWN]:
        print(f"  - {fault}")
    if len(faults) > FAULTS_SHOWN:
        print(f"  … and {len(faults) - FAULTS_SHOWN} more")
    return 1


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder.resolve()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
