"""Video files: what is written, and how it fails."""

import importlib.util
import subprocess

import numpy as np
import pytest
from PIL import Image, ImageSequence

from policygrad.core.errors import UserError
from policygrad.watching import Film, check_film, films


def picture(shade, size=(20, 30)):
    return np.full((*size, 3), shade, np.uint8)


def read_gif(path):
    """The pictures of a GIF, and how long each is shown, in milliseconds."""
    with Image.open(path) as image:
        frames = [(np.asarray(f.convert("RGB")), f.info["duration"]) for f in _frames(image)]
    return [p for p, _ in frames], [d for _, d in frames]


def _frames(image):
    for frame in ImageSequence.Iterator(image):
        yield frame.copy()


def test_a_gif_holds_the_pictures_and_their_times(tmp_path):
    path = tmp_path / "a.gif"
    shown = [picture(10), picture(200), picture(200), picture(90)]
    shown[3][5:7, 8:11] = (1, 2, 3)
    film = Film(path, fps=30)
    for each in shown[:3]:
        film.add(each)
    film.add(shown[3], times=30)
    assert not path.exists()  # not before it is whole
    film.close()
    pictures, durations = read_gif(path)
    assert all(np.array_equal(a, b) for a, b in zip(pictures, shown, strict=True))
    assert durations == [30, 40, 30, 1000]  # hundredths of a second, without drift
    assert film.frames == 33
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]


def test_many_colours_come_out_nearly_the_same(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (40, 40, 1)).astype(np.uint8)
    shown = np.concatenate([rows, rows[::-1], rows], axis=2)
    film = Film(tmp_path / "a.gif", fps=10)
    film.add(shown)
    film.close()
    (found,), _ = read_gif(tmp_path / "a.gif")
    assert np.abs(found.astype(int) - shown).mean() < 20


def test_a_file_that_is_there_is_replaced_by_a_whole_film_alone(tmp_path):
    path = tmp_path / "a.gif"
    path.write_bytes(b"before")
    film = Film(path, fps=10)
    film.add(picture(1))
    film.discard()
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]
    empty = Film(path, fps=10)
    empty.close()
    assert path.read_bytes() == b"before"


def test_mp4(tmp_path):
    library = pytest.importorskip("imageio_ffmpeg")
    path = tmp_path / "a.mp4"
    film = Film(path, fps=12.5)
    for shade in range(0, 250, 10):
        film.add(picture(shade, (64, 48)))
    film.close()
    words = [library.get_ffmpeg_exe(), "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    found = subprocess.run(words, capture_output=True, check=True)
    assert all(text in found.stderr for text in (b"yuv420p", b"48x64", b"12.50 fps"))
    pictures = np.frombuffer(found.stdout, np.uint8).reshape(-1, 64, 48, 3)
    assert np.allclose(pictures.mean(axis=(1, 2, 3)), range(0, 250, 10), atol=4)


def test_what_ffmpeg_says_is_the_error(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    film = Film(tmp_path / "a.mp4", fps=10)
    with pytest.raises(UserError, match=r"cannot write the video .*a.mp4: .*not divisible by 2"):
        for _ in range(200):
            film.add(picture(1, (301, 301)))
    film.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_film_of_mp4_is_started_without_a_fork(monkeypatch, tmp_path):
    seen = {}

    class Popen:
        def __init__(self, words, **how):
            seen.update(how)
            raise OSError(2, "no such program")

    monkeypatch.setattr(subprocess, "Popen", Popen)
    monkeypatch.setattr(
        films.importlib, "import_module",
        lambda name: type("Library", (), {"get_ffmpeg_exe": staticmethod(lambda: "ffmpeg")}),
    )  # fmt: skip
    with pytest.raises(UserError, match="no such program"):
        Film(tmp_path / "a.mp4", 10).add(picture(1))
    assert "preexec_fn" not in seen
    assert seen["start_new_session"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.avi", r"a video ends in .mp4 or .gif, got a.avi"),
        ("a", r"a video ends in .mp4 or .gif, got a"),
        ("a.mp4.txt", r"a video ends in .mp4 or .gif"),
        ("folder.gif", r"folder.gif is a directory; name a file"),
        ("file/a.gif", r"cannot write the video .*file/a.gif"),
    ],
)
def test_files_that_are_refused(tmp_path, name, words):
    (tmp_path / "folder.gif").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=words):
        check_film(tmp_path / name)


def test_gif_needs_no_package(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None)
    check_film(tmp_path / "new" / "a.GIF")
    assert (tmp_path / "new").is_dir()
    with pytest.raises(UserError, match=r"pip install 'policygrad\[video\]'"):
        check_film(tmp_path / "a.mp4")
