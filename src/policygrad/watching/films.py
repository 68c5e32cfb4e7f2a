"""Video files: MP4 by ffmpeg, GIF by Pillow, which every installation has."""

import contextlib
import importlib
import importlib.util
import os
import subprocess
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import GifImagePlugin, Image, ImageChops

from policygrad.core.errors import UserError

ENDINGS = (".mp4", ".gif")
MANY_COLOURS = 2048


class Film:
    """A video file. It is written under a temporary name, and appears whole or not at all.

    Args:
        path: of the file; its ending selects the format. A file that is there is replaced.
        fps: pictures a second.

    Attributes:
        frames: how many pictures it has.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self.fps, self.frames = path, fps, 0
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
        self._writer: _Writer | None = None

    def add(self, picture: np.ndarray, times: int = 1) -> None:
        """Show a picture `[height, width, 3]` of bytes, with even sides, for so many frames."""
        try:
            if self._writer is None:
                kind = _Gif if self.path.suffix.lower() == ".gif" else _Mp4
                self._writer = kind(self._temporary, self.fps, picture)
            self._writer.add(picture, times)
        except OSError as error:
            raise _unwritten(self.path, error) from error
        self.frames += times

    def close(self) -> None:
        """Finish the file, and give it its name. A film without a picture leaves no file."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            writer.close()
            os.replace(self._temporary, self.path)
        except OSError as error:
            raise _unwritten(self.path, error) from error
        finally:
            self._temporary.unlink(missing_ok=True)

    def discard(self) -> None:
        """Leave no file behind."""
        writer, self._writer = self._writer, None
        with contextlib.suppress(Exception):
            if writer is not None:
                writer.close()
        self._temporary.unlink(missing_ok=True)


class _Writer(Protocol):
    def add(self, picture: np.ndarray, times: int) -> None: ...

    def close(self) -> None: ...


class _Mp4:
    """H.264 in the colours that every player reads, by the ffmpeg that imageio-ffmpeg brings.

    It has a session of its own, so that Ctrl-C ends it only with the film. It is started without
    a fork of this process, which JAX's threads would not survive.
    """

    def __init__(self, path: Path, fps: float, first: np.ndarray) -> None:
        height, width, _ = first.shape
        program = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
        given = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}"]
        wanted = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "20", "-movflags", "+faststart"]
        self._ffmpeg = subprocess.Popen(
            [program, "-y", "-loglevel", "error", *given, "-i", "-", "-an", *wanted, str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def add(self, picture: np.ndarray, times: int) -> None:
        assert self._ffmpeg.stdin is not None
        content = np.ascontiguousarray(picture).tobytes()
        try:
            for _ in range(times):
                self._ffmpeg.stdin.write(content)
        except BrokenPipeError:
            self.close()  # says why

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            _, told = self._ffmpeg.communicate()
            if self._ffmpeg.returncode:
                lines = told.decode(errors="replace").strip().splitlines() or ["ffmpeg failed"]
                raise OSError(lines[0])


class _Gif:
    """One block a picture, of what has changed: it is written as it comes, so that a film of any
    length takes the memory of one picture."""

    def __init__(self, path: Path, fps: float, first: np.ndarray) -> None:
        self._fps, self._shown, self._written = fps, 0, 0
        self._before: Image.Image | None = None
        image = _of_few_colours(Image.fromarray(first))
        header = b"".join(GifImagePlugin.getheader(image, info={"loop": 0})[0])
        self._file = open(path, "wb")  # noqa: SIM115
        self._file.write(header)

    def add(self, picture: np.ndarray, times: int) -> None:
        image, place = Image.fromarray(picture), (0, 0)
        part = image
        if self._before is not None:
            box = ImageChops.difference(image, self._before).getbbox() or (0, 0, 1, 1)
            part, place = image.crop(box), box[:2]
        self._before = image
        self._shown += times
        ends = round(100 * self._shown / self._fps)  # hundredths of a second, without drift
        duration, self._written = 10 * (ends - self._written), ends
        blocks: Any = GifImagePlugin.getdata(
            _of_few_colours(part), place, duration=duration, include_color_table=True
        )
        self._file.write(b"".join(blocks))

    def close(self) -> None:
        with self._file:
            self._file.write(b";")


def _of_few_colours(image: Image.Image) -> Image.Image:
    """An image with a palette: exactly the same if it has at most 256 colours. Of some thousand,
    the most frequent 256 are kept, so that surfaces do not change their shade from part to part."""
    counted = image.getcolors(MANY_COLOURS)
    if counted is None:
        return image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    colours = np.array([colour for _, colour in sorted(counted, key=lambda c: -c[0])], np.int64)
    palette = colours[:256]
    distances = np.square(colours[:, None] - palette).sum(axis=2)
    codes, weights = np.asarray(image).astype(np.int64), np.array([1 << 16, 1 << 8, 1])
    known, order = np.unique(colours @ weights, return_index=True)
    places = distances.argmin(axis=1)[order][np.searchsorted(known, codes @ weights)]
    found = Image.fromarray(places.astype(np.uint8), "P")
    found.putpalette(palette.astype(np.uint8).tobytes())
    return found


def check_film(path: Path) -> None:
    """Raise UserError unless a video can be written to a path; its folder is made.

    Args:
        path: of the file.
    """
    check_package(path.name)
    if path.is_dir():
        raise UserError(f"{path} is a directory; name a file, such as {path / 'watch.mp4'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritten(path, error) from error


def check_package(name: str) -> None:
    """Raise UserError unless the format of a video's name is known, and can be written here."""
    ending = Path(name).suffix.lower()
    if ending not in ENDINGS:
        raise UserError(f"a video ends in {' or '.join(ENDINGS)}, got {name}")
    if ending == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise UserError(
            "a video in MP4 needs imageio-ffmpeg; pip install 'policygrad[video]'. GIF needs "
            "nothing: policygrad watch RUN --out FILE.gif"
        )


def _unwritten(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot write the video {path}: {error.strerror or error}")
