"""Published times of known models: what a person compares a measurement with. Those of the zoo are in its table.

Milliseconds of one inference, of the model alone. Source: coral.ai/docs/edgetpu/benchmarks (a desktop with the USB 3
accelerator, and the Dev Board); coral.ai/models/object-detection and pycoral's own reference where the entry says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from clusteradm.models import zoo

_MODELS = "coral.ai/models"
_PAGE = "coral.ai/docs/edgetpu/benchmarks"
_ZOO = "coral.ai/models/object-detection"
_PYTHON = "google-coral/pycoral, benchmarks/reference"


@dataclass(frozen=True)
class Latency:
    """Times of one inference in ms; None where none is published."""

    model: str
    side: int  # of the input, pixels
    usb: float | None
    dev_board: float | None
    source: str = _PAGE


# Name of the file (lower case, "_" between words) -> what is published.
_KNOWN: Sequence[tuple[str, Latency]] = (
    (r"unet.*mv2|unet.*mobilenet_?v2|keras_post_training_unet_mv2", Latency("U-Net MobileNet v2", 128, 3.3, 5.7)),
    (r"deeplabv3_mnv2(?!_dm05)", Latency("DeepLab v3 MobileNet v2", 513, 52, 241)),
    (r"densenet", Latency("DenseNet", 224, 20, 25)),
    (r"inception_?v1", Latency("Inception v1", 224, 3.4, 4.1)),
    (r"inception_?v4", Latency("Inception v4", 299, 85, 102)),
    (r"inception_?resnet_?v2", Latency("Inception-ResNet v2", 299, 57, 69)),
    (r"ssd_?lite_?mobiledet", Latency("SSDLite MobileDet", 320, 9.1, None, _ZOO)),
    (r"ssd_?mobilenet_?v1_fpn|ssd_?fpn", Latency("SSD FPN MobileNet v1", 640, 229.4, None, _ZOO)),
    (r"efficientdet_?lite0", Latency("EfficientDet-Lite0", 320, 37.4, None, _ZOO)),
    (r"efficientdet_?lite1", Latency("EfficientDet-Lite1", 384, 56.3, None, _ZOO)),
    (r"ssd_?mobilenet_?v1", Latency("SSD MobileNet v1", 224, 6.5, 11)),
    (r"ssd_?mobilenet_?v1", Latency("SSD MobileNet v1", 300, 10.0, 14.8, _PYTHON)),
    (r"ssd_?mobilenet_?v2", Latency("SSD MobileNet v2", 224, 7.2, 14)),
    (r"ssd_?mobilenet_?v2", Latency("SSD MobileNet v2", 300, 7.3, None, _ZOO)),
    (r"(?<!ssd_)mobilenet_?v1_1\.0", Latency("MobileNet v1", 224, 2.4, 2.4)),
    (r"(?<!ssd_)mobilenet_?v2_1\.0", Latency("MobileNet v2", 224, 2.6, 2.6)),
    (r"resnet_?50_?v1", Latency("ResNet-50 v1", 299, 49, 56)),
    (r"resnet_?50_?v2", Latency("ResNet-50 v2", 299, 50, 59)),
    (r"resnet_?152_?v2", Latency("ResNet-152 v2", 299, 128, 151)),
    (r"squeezenet", Latency("SqueezeNet", 224, 2.1, 2)),
    (r"vgg_?16", Latency("VGG16", 224, 296, 343)),
    (r"vgg_?19", Latency("VGG19", 224, 308, 357)),
    (r"efficientnet.*edgetpu_?s", Latency("EfficientNet-EdgeTpu-S", 224, 5.1, 5.5)),
    (r"efficientnet.*edgetpu_?m", Latency("EfficientNet-EdgeTpu-M", 240, 8.7, 10.6)),
)
_SEGMENT = re.compile(r"_segment_\d+_of_\d+")


def latencies(file_name: str, shape: Sequence[int]) -> tuple[Latency, ...]:
    """What is published of a model, by its file's name and its input's size; () where either does not fit.

    A segment of a pipeline is no whole model. A name may lie: the answer is what to compare with, no measurement.
    """
    stem = file_name.removesuffix(".tflite").removesuffix(zoo.COMPILED)
    name = stem.lower().replace("-", "_")
    if len(shape) != 4 or _SEGMENT.search(name):
        return ()
    size = f"{shape[2]}x{shape[1]}"
    found = [
        Latency(one.name, shape[1], one.usb, None, _MODELS)
        for one in zoo.models()
        if one.name == stem and one.input == size and one.usb is not None
    ]
    known = (about for pattern, about in _KNOWN if re.search(pattern, name))
    return (*found, *[about for about in known if about.side == shape[1] == shape[2]][:1])
