"""File to accumulated, seconds a frame, beside other stackers: same frames, same run, same cores; and what comes out.

    PYTHONPATH=. python benchmarks/compare_peers.py [--sizes 1936x1096 6248x4176] [--frames 24] [--rounds 2]
        [--peer seiza=/path/python] [--peer astroalign=/path/python] [--siril siril-cli]

Each stacker runs in a process of its own, in an interpreter of its own where one is named (astroalign pins another
build of `sep`); one that cannot be had is left out and the reason said. The rounds are gone through in turn, and
the fastest round of each counts, since others may use the machine.

* livestack: `read_frames`, then `LiveStack.add`, one after the other. "overlapped": the next frame is read and
  measured while this one is stacked, as a session does.
* Seiza: `LiveStacker.push_fits` with its defaults, one after the other; "pipelined": `push_fits_pipelined`, two
  workers.
* astroalign: `find_transform` with the reference's stars kept, `apply_transform`, running mean with numpy; no
  rejection.
* Siril: live stacking cannot be scripted, so a sequence is registered and stacked as a whole (`register`, `stack
  rej 3 3`), its time shared among the frames.

"warm" is the median after frame 12, behind the warm-up of ours and of Seiza's rejection; "all" the mean of all
frames, start of the libraries left out, our robust start included.

What comes out is held against the noise-free picture of the first frame, to which all register: noise of the means
of 8 x 8 pixels of dark sky over the ideal (that of one frame by the square root of their number), and the FWHM of
the stars.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

WARM = 12
BLOCK = 8
TARGETS = {"6248x4176": 1 / 3, "1936x1096": 1 / 2}
OURS = ("livestack", "livestack overlapped")


def stack_livestack(files: list[Path], out: Path) -> list[float]:
    """Ours, one after the other."""
    from livestack import LiveStack, read_frames
    from livestack.kernels.bands import Bands

    seconds = []
    with LiveStack(bands=Bands(os.cpu_count() or 1)) as stack:
        for path in files:
            begin = time.perf_counter()
            for frame in read_frames(path):
                stack.add(frame)
            seconds.append(time.perf_counter() - begin)
        np.save(out, stack.result().mean)
    return seconds


def stack_overlapped(files: list[Path], out: Path) -> list[float]:
    """Ours, the next frame being prepared meanwhile."""
    from livestack import LiveStack, read_frames
    from livestack.kernels.bands import Bands

    seconds = []
    with LiveStack(bands=Bands(os.cpu_count() or 1)) as stack, ThreadPoolExecutor(1) as reader:

        def prepare(path: Path):
            return stack.prepare(next(read_frames(path)))

        before = time.perf_counter()
        ahead = reader.submit(prepare, files[0])
        for number in range(len(files)):
            prepared = ahead.result()
            if number + 1 < len(files):
                ahead = reader.submit(prepare, files[number + 1])
            stack.add_prepared(prepared)
            now = time.perf_counter()
            seconds.append(now - before)
            before = now
        np.save(out, stack.result().mean)
    return seconds


def stack_seiza(files: list[Path], out: Path) -> list[float]:
    """Seiza's live stacker."""
    import seiza

    begin = time.perf_counter()
    stacker = seiza.LiveStacker(files[0])
    seconds = [time.perf_counter() - begin]
    for path in files[1:]:
        begin = time.perf_counter()
        stacker.push_fits(path)
        seconds.append(time.perf_counter() - begin)
    print(f"accepted {stacker.accepted_frames} of {len(files)}", file=sys.stderr)
    np.save(out, stacker.snapshot().image)
    return seconds


def stack_seiza_pipelined(files: list[Path], out: Path) -> list[float]:
    """Seiza, several frames being prepared at a time; one number for all of them."""
    import seiza

    begin = time.perf_counter()
    stacker = seiza.LiveStacker(files[0])
    stacker.push_fits_pipelined(files[1:], workers=os.cpu_count())
    each = (time.perf_counter() - begin) / len(files)
    np.save(out, stacker.snapshot().image)
    return [each] * len(files)


def stack_astroalign(files: list[Path], out: Path) -> list[float]:
    """astroalign and a running mean."""
    import astroalign
    from astropy.io import fits

    seconds = []
    mean = count = stars = None
    for path in files:
        begin = time.perf_counter()
        data = fits.getdata(path).astype(np.float32)
        if mean is None:
            mean, count = data.astype(np.float64), np.ones(data.shape, np.uint16)
            stars = astroalign._find_sources(data)
        else:
            transform, _ = astroalign.find_transform(data, stars)
            moved, outside = astroalign.apply_transform(transform, data, mean)
            count += ~outside
            mean += np.where(outside, 0.0, (moved - mean) / count)
        seconds.append(time.perf_counter() - begin)
    np.save(out, mean.astype(np.float32))
    return seconds


def stack_siril(files: list[Path], out: Path, siril: str) -> list[float]:
    """Siril on a sequence: registration and stacking, shared among the frames."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        for folder in ("in", "work"):
            (place / folder).mkdir()
        for number, path in enumerate(files):
            os.symlink(path.resolve(), place / "in" / f"light_{number + 1:05d}.fit")
        script = place / "stack.ssf"
        steps = ("requires 1.0.0", "setext fit", f"cd {place}/in", f"link light -out={place}/work", f"cd {place}/work",
                 "register light", "stack r_light rej 3 3 -norm=addscale -out=result", "close")  # fmt: skip
        script.write_text("\n".join(steps) + "\n")
        begin = time.perf_counter()
        run = subprocess.run([siril, "-s", str(script)], capture_output=True, text=True, timeout=1800)
        each = (time.perf_counter() - begin) / len(files)
        result = place / "work" / "result.fit"
        if run.returncode or not result.exists():
            said = [line for line in run.stdout.splitlines() if line.strip()][-3:]
            raise RuntimeError(f"{siril} ended with {run.returncode}: {' / '.join(said)}")
        from livestack import read_frames

        np.save(out, next(read_frames(result)).data)
    return [each] * len(files)


STACKERS = {
    "livestack": stack_livestack,
    "livestack overlapped": stack_overlapped,
    "seiza": stack_seiza,
    "seiza pipelined": stack_seiza_pipelined,
    "astroalign": stack_astroalign,
}


def run_stacker(name: str, python: str, files: list[Path], out: Path, siril: str) -> tuple[list[float], float]:
    """Seconds of each frame, and processor seconds of the whole process."""
    command = [python, __file__, "--child", name, "--out", str(out), "--siril", siril, "--files", *map(str, files)]
    before = os.times()
    run = subprocess.run(command, capture_output=True, text=True)
    after = os.times()
    if run.returncode:
        raise RuntimeError(run.stderr.strip().splitlines()[-1] if run.stderr.strip() else f"status {run.returncode}")
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return json.loads(run.stdout.splitlines()[-1]), processor


def block_means(picture: np.ndarray) -> np.ndarray:
    """Means of 8 x 8 pixels."""
    height, width = (side // BLOCK * BLOCK for side in picture.shape)
    cut = picture[:height, :width].astype(np.float64)
    return cut.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).mean(axis=(1, 3))


class Truth:
    """The noise-free first frame, and what one frame's noise is."""

    def __init__(self, expected: np.ndarray, frame: np.ndarray) -> None:
        self.blocks = block_means(expected)
        sky = np.median(self.blocks)
        spread = 1.4826 * np.median(np.abs(self.blocks - sky))
        self.dark = self.blocks < sky + spread
        self.dark[:4] = self.dark[-4:] = False
        self.dark[:, :4] = self.dark[:, -4:] = False
        self.lit = self.blocks > sky + 10 * spread
        self.frame_noise = self._noise(block_means(frame) - self.blocks)

    def _noise(self, residual: np.ndarray) -> float:
        """Robust scatter of differences between blocks three apart: slopes drop out, no kernel reaches so far."""
        both = self.dark[:, 3:] & self.dark[:, :-3] & np.isfinite(residual[:, 3:] - residual[:, :-3])
        jumps = (residual[:, 3:] - residual[:, :-3])[both]
        return 1.4826 * float(np.median(np.abs(jumps - np.median(jumps)))) / 2**0.5

    def noise_over_ideal(self, picture: np.ndarray, frames: int) -> float:
        """Of a stack in whatever units: its scale is that of the blocks with stars in them."""
        blocks = block_means(picture)
        use = self.lit & np.isfinite(blocks)
        scale = np.polyfit(self.blocks[use], blocks[use], 1)[0]
        return self._noise(blocks / scale - self.blocks) * frames**0.5 / self.frame_noise


def star_fwhm(picture: np.ndarray) -> float:
    """FWHM in pixels by our own fit, the same for all."""
    from livestack.detection.psf import measure_psf

    model = measure_psf(np.ascontiguousarray(picture, dtype=np.float32))
    return model.fwhm_px if model is not None else float("nan")


def write_frames(folder: Path, size: str, frames: int) -> tuple[list[Path], Truth]:
    """The night on disk (taken again when it is there), and its truth."""
    from livestack.simulate import named_scenario, parse_size, simulate_frame
    from livestack.simulate.files import encode_frame

    width, height = parse_size(size)
    night = named_scenario("mono", frames=frames, width=width, height=height, seed=2)
    place = folder / f"peers-{size}"
    place.mkdir(parents=True, exist_ok=True)
    files = [place / f"light_{number:04d}.fits" for number in range(frames)]
    first = simulate_frame(night, 0, expected=True)
    assert first.expected is not None
    for number, path in enumerate(files):
        if not path.exists():
            path.write_bytes(encode_frame(night, simulate_frame(night, number).frame, "fits"))
    return files, Truth(first.expected, first.frame.data)


def compare(size: str, files: list[Path], truth: Truth, pythons: dict[str, str], rounds: int, siril: str) -> None:
    """Print the table of one size."""
    warm, whole, processor, skipped = {}, {}, {}, {}
    quality = {}
    with tempfile.TemporaryDirectory() as temporary:
        for _ in range(rounds):
            for name, python in pythons.items():
                if name in skipped:
                    continue
                out = Path(temporary) / "result.npy"
                try:
                    seconds, spent = run_stacker(name, python, files, out, siril)
                except RuntimeError as error:
                    skipped[name] = str(error)
                    continue
                warm[name] = min(warm.get(name, np.inf), float(np.median(seconds[WARM:])))
                whole[name] = min(whole.get(name, np.inf), float(np.mean(seconds[1:])))
                processor[name] = min(processor.get(name, np.inf), spent / len(files))
                if name not in quality:
                    picture = np.squeeze(np.load(out))
                    quality[name] = truth.noise_over_ideal(picture, len(files)), star_fwhm(picture)
    print(f"\n{size}, {len(files)} frames, fastest of {rounds} rounds, load of the machine {os.getloadavg()[0]:.1f}\n")
    print(
        "| stacker | warm, s a frame | ours / this | all, s a frame | processor, s a frame | noise / ideal | FWHM, px |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in warm:
        mine = OURS[1] if "pipelined" in name else OURS[0]
        ratio = "" if name in OURS else f"{warm[mine] / warm[name]:.2f}"
        noise, fwhm = quality[name]
        print(f"| {name} | {warm[name]:.3f} | {ratio} | {whole[name]:.3f} | {processor[name]:.2f} | {noise:.3f} "
              f"| {fwhm:.2f} |")  # fmt: skip
    if "seiza" in warm and size in TARGETS:
        ratio = warm[OURS[0]] / warm["seiza"]
        print(f"\ntarget: at most {TARGETS[size]:.2f} of Seiza's time: {'met' if ratio <= TARGETS[size] else 'missed'}")
    for name, why in skipped.items():
        print(f"\n{name} was left out: {why}")
    sys.stdout.flush()


def child(name: str, files: list[Path], out: Path, siril: str) -> None:
    """One stacker in this process; prints seconds of each frame."""
    seconds = stack_siril(files, out, siril) if name == "siril" else STACKERS[name](files, out)
    print(json.dumps(seconds))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["1936x1096", "6248x4176"])
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the frames lie or shall lie")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON", help="seiza or astroalign")
    parser.add_argument("--siril", default="siril-cli")
    for hidden in ("--child", "--out"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--files", nargs="+", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.files, Path(arguments.out), arguments.siril)
        return
    named = dict(peer.split("=", 1) for peer in arguments.peer)
    pythons = dict.fromkeys(OURS, sys.executable)
    for name in ("seiza", "seiza pipelined", "astroalign"):
        pythons[name] = named.get(name.split()[0], sys.executable)
    if shutil.which(arguments.siril):
        pythons["siril"] = sys.executable
    else:
        print(f"siril was left out: there is no {arguments.siril} on the path")
    with tempfile.TemporaryDirectory() as temporary:
        for size in arguments.sizes:
            files, truth = write_frames(arguments.folder or Path(temporary), size, arguments.frames)
            compare(size, files, truth, pythons, arguments.rounds, arguments.siril)


if __name__ == "__main__":
    main()
