"""Options that say how a model is fed and read, of the commands that deploy and run one."""

from __future__ import annotations

import argparse
import math

from clusteradm.models import advice
from clusteradm.node.spec.wire.manifest import CLASSIFIER, DETECTOR, EMBEDDING, FITS, POSE, RAW, SEGMENTATION, TASKS

_CHANNELS = (1, 3, 4)
_MOST_RATE = 1 << 31
_VERBS = {
    "classify": CLASSIFIER,
    "detect": DETECTOR,
    "segment": SEGMENTATION,
    "embed": EMBEDDING,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --mean, --std and --layout."""
    parser.add_argument(
        "--mean", type=_numbers, metavar="M", help="mean of the pixels (0 to 255), one number or one per channel: 127.5"
    )
    parser.add_argument(
        "--std", type=_numbers, metavar="S", help="their deviation; the model is fed (pixel - mean) / deviation"
    )
    parser.add_argument("--layout", choices=("nhwc", "nchw"), help="where the model has the channels of a picture")


def add_fit(parser: argparse.ArgumentParser) -> None:
    """Add --fit."""
    parser.add_argument(
        "--fit",
        choices=FITS,
        help="how a picture gets the size of the input: stretched (default), with black right of it or below, or in "
        "the middle of grey (default of YOLO)",
    )


def add_rate(parser: argparse.ArgumentParser) -> None:
    """Add --sample-rate."""
    parser.add_argument(
        "--sample-rate", type=_rate, metavar="HZ", help="samples a second of the sound that the model takes (16000)"
    )


def add_task(parser: argparse.ArgumentParser, *, raw: bool = False) -> None:
    """Add --task. `raw`: whether it may be no task at all."""
    about = (
        f"what its outputs are read for: {', '.join((*_VERBS, POSE, RAW))} (default: as it was deployed)"
        if raw
        else f"what it is made for: {', '.join(TASKS)} (default: what it seems)"
    )
    parser.add_argument("--task", type=_task, choices=(*TASKS, *((RAW,) if raw else ())), metavar="TASK", help=about)


def add_threshold(parser: argparse.ArgumentParser) -> None:
    """Add --threshold."""
    parser.add_argument("--threshold", type=_number, metavar="T", help="leave out answers with a lower score: 0.4")


def values(args: argparse.Namespace) -> tuple[tuple[float, ...], tuple[float, ...], str | None]:
    """Mean, deviation and layout; () and None for what is not given. Raises UsageError for one without the other."""
    mean, std = args.mean or (), args.std or ()
    advice.check_numbers(mean, std)
    return mean, std, args.layout


def _task(text: str) -> str:
    """The task; its verb is taken as well."""
    return _VERBS.get(text, text)


def _rate(text: str) -> int:
    if text.isdecimal() and 0 < int(text) < _MOST_RATE:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of samples a second: 16000")


def _number(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number: 0.4")
    return found


def _numbers(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) not in _CHANNELS or not all(math.isfinite(value) for value in found):
        raise argparse.ArgumentTypeError(f"{text!r} is not one number, nor one for each of 3 or 4 channels: 127.5")
    return found
