"""What a crowd costs: 100 visitors on event streams, each fetching every picture as a phone does, while we stack.

    python benchmarks/bench_web.py [--visitors 100] [--seconds 4] [--rounds 3]

Quiet and crowded stretches alternate, so that other work on the machine weighs on both. "Stacking" stands for what a
session does all the time: a 12 megapixel frame warped and added, in one thread. Prints the slowdown, the bytes for each
visitor and picture, how late pictures arrive, and the server's memory. Ten of the visitors never read what they are
sent. Only addresses of this machine are used; the visitors run in a process of their own, at low priority, because on
the night they are other machines.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from livestack.faces.web.server import WebServer
from livestack.session.snapshot import Slot, Snapshot

LAZY_SHARE = 10
UPDATE_S = 1.0


async def visit(port: int, lazy: bool, seconds: float, told: list[tuple[int, float]], run: dict[str, int]) -> None:
    """One visitor: listen to the events, fetch each picture over a connection that stays open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
    writer.write(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    if lazy:  # never reads
        await asyncio.sleep(seconds)
        writer.close()
        return
    picture_reader, picture_writer = await asyncio.open_connection("127.0.0.1", port)
    end = time.monotonic() + seconds
    try:
        while (left := end - time.monotonic()) > 0:
            line = await asyncio.wait_for(reader.readline(), left)
            if not line.startswith(b"data: {"):
                continue
            status = json.loads(line[6:])
            run["events"] += 1
            picture_writer.write(f"GET /{status['small']} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = await asyncio.wait_for(picture_reader.readuntil(b"\r\n\r\n"), left)
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await asyncio.wait_for(picture_reader.readexactly(length), left)
            published = float(status["note"])
            told.append((len(line) + len(head) + length, time.time() - published))
    except TimeoutError:
        pass
    finally:
        writer.close()
        picture_writer.close()


async def crowd(port: int, visitors: int, seconds: float) -> None:
    """All visitors at once; prints what they got as JSON."""
    told: list[tuple[int, float]] = []
    run = {"events": 0}
    await asyncio.gather(*(visit(port, n % LAZY_SHARE == 0, seconds, told, run) for n in range(visitors)))
    print(json.dumps({"pictures": len(told), "bytes": [b for b, _ in told], "late": [t for _, t in told], **run}))


def memory_mb() -> float:
    """Resident memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("memory: no VmRSS in /proc/self/status; this benchmark runs on Linux.")


def publish_pictures(slot: Slot, done: threading.Event) -> None:
    """A new picture of 1920 x 1280 with sky noise every second."""
    rng = np.random.default_rng(5)
    pictures = [np.clip(rng.normal(30, 8, (1280, 1920, 3)), 0, 255).astype(np.uint8) for _ in range(4)]
    snapshot = Snapshot(state="watching", full_size=(6248, 4176), object_name="M 31")
    count = 0
    while not done.wait(UPDATE_S):
        count += 1
        snapshot = replace(
            snapshot, sequence=count, picture_sequence=count, n_stacked=count, note=str(time.time()),
            picture=pictures[count % 4].copy(), last_frame=pictures[(count + 1) % 4].copy(),
        )  # fmt: skip
        slot.publish(snapshot)


def stack_for(seconds: float) -> list[float]:
    """Warp and add 12 megapixel frames for so long; returns the seconds that each took."""
    frame = np.random.default_rng(6).normal(100, 5, (3000, 4000)).astype(np.float32)
    total, shift = np.zeros_like(frame), np.float32([[1, 0.001, 2.3], [-0.001, 1, 1.7]])
    times: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        total += cv2.warpAffine(frame, shift, (4000, 3000), flags=cv2.INTER_CUBIC)
        times.append(time.perf_counter() - began)
    return times


def watch_stacking(seconds: float, shares: list[float]) -> list[float]:
    """Stack for so long, and note the share of a core that this process used besides."""
    began = time.monotonic(), time.process_time(), time.thread_time()
    times = stack_for(seconds)
    wall, process, thread = (
        now - then for now, then in zip((time.monotonic(), time.process_time(), time.thread_time()), began, strict=True)
    )
    shares.append((process - thread) / wall)
    return times


def main() -> None:
    """Alternate quiet and crowded stretches and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--crowd", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.crowd:
        os.nice(15)
        asyncio.run(crowd(arguments.crowd, arguments.visitors, arguments.seconds))
        return
    cv2.setNumThreads(1)
    slot, done = Slot(), threading.Event()
    server = WebServer(slot, None, "127.0.0.1", 0)
    server.start()
    publisher = threading.Thread(target=publish_pictures, args=(slot, done))
    publisher.start()
    stack_for(1.5)
    quiet: list[float] = []
    crowded: list[float] = []
    shares: dict[str, list[float]] = {"quiet": [], "crowded": []}
    memory, got = [memory_mb()], []
    try:
        for _ in range(arguments.rounds):
            quiet += watch_stacking(arguments.seconds, shares["quiet"])
            port = server.public_url.rsplit(":", 1)[1].rstrip("/")
            command = [sys.executable, __file__, "--crowd", port, "--visitors", str(arguments.visitors)]
            visitors = subprocess.Popen(
                [*command, "--seconds", str(arguments.seconds)], stdout=subprocess.PIPE, text=True
            )
            time.sleep(1.0)  # the interpreter of the visitors starts
            crowded += watch_stacking(arguments.seconds - 0.5, shares["crowded"])
            memory.append(memory_mb())
            got.append(json.loads(visitors.communicate(timeout=30)[0]))
    finally:
        done.set()
        publisher.join()
        server.stop()
    sizes, late = ([value for g in got for value in g[key]] for key in ("bytes", "late"))
    before, after = statistics.median(quiet), statistics.median(crowded)
    print(f"visitors                          {arguments.visitors} ({arguments.visitors // LAZY_SHARE} never read)")
    print(f"stacking a frame, nobody looking  {1e3 * before:.1f} ms")
    print(f"stacking a frame, crowd looking   {1e3 * after:.1f} ms   ({after / before:.2f} x)")
    print(
        f"server, share of a core           {statistics.mean(shares['quiet']):.2f} quiet, "
        f"{statistics.mean(shares['crowded']):.2f} with the crowd"
    )
    print(f"pictures delivered                {len(sizes)} ({sum(g['events'] for g in got)} updates)")
    print(f"bytes a visitor a picture         {statistics.mean(sizes):.0f}")
    print(f"seconds from snapshot to screen   {statistics.median(late):.2f} median, {max(late):.2f} worst")
    print(f"memory, MB                        {' -> '.join(f'{m:.0f}' for m in memory)}")


if __name__ == "__main__":
    main()
