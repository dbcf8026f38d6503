"""DOODS' protocol: GET /detectors, and POST /detect with a picture in base64, as Home Assistant's `doods` sends it."""

import time
from typing import Any, Dict

from clusteradm.node.serve.fronts import detecting, numbers
from clusteradm.node.serve.fronts.calls import about, number, patience
from clusteradm.node.serve.fronts.exchange import Exchange, HttpError, Reply, dumps
from clusteradm.node.serve.index import Detector
from clusteradm.node.serve.plane import INVALID, Refusal
from clusteradm.node.spec import feeding

_MOST_LABELS = 1000


async def answer(exchange: Exchange) -> Reply:
    """Either of the two."""
    if exchange.parts == ["detectors"]:
        exchange.allow("GET", "HEAD")
        return Reply(dumps({"detectors": [_described(each) for each in await detecting.everywhere(exchange.desk)]}))
    if exchange.parts != ["detect"]:
        raise HttpError(404, "of DOODS there are detectors and detect")
    exchange.allow("POST")
    wish = await exchange.json()
    if not isinstance(wish, dict):
        raise Refusal(INVALID, "a request is a JSON object with data")
    picture = numbers.decoded(wish.get("data"), "data")
    least = _limits(wish.get("detect"))
    name = wish.get("detector_name") or "default"
    if not isinstance(name, str):
        raise Refusal(INVALID, "detector_name is a text")
    if wish.get("regions"):
        raise Refusal(INVALID, "regions are not there: choose among the detections by their places")
    desk, call = exchange.desk, exchange.call
    if name != "default":
        call.model = name
        info = await desk.plane.info(name)
    else:
        info = await detecting.choose(desk)
    deadline, _ = patience(exchange.headers)
    started = time.monotonic()
    found = await detecting.picture(desk, call, info, picture, deadline, await exchange.version(info.name, None, None))
    width, height = found.size
    detections = []
    for each in found.objects:
        wanted = least.get(each.label, least.get("*"))
        if wanted is not None and each.score * 100 >= wanted and width and height:
            left, top, right, bottom = each.box
            detections.append(
                {
                    "top": top / height,
                    "left": left / width,
                    "bottom": bottom / height,
                    "right": right / width,
                    "label": each.label,
                    "confidence": each.score * 100,
                }
            )
    whole: Dict[str, Any] = {
        "id": str(wish.get("id", ""))[:100],
        "detections": detections,
        "elapsed_ms": round((time.monotonic() - started) * 1000, 3),
        "board": found.answer.board,
        "tpu": found.answer.device,
        "version": found.answer.version,
    }
    if found.answer.simulated:
        whole["simulated"] = True
    return Reply(dumps(whole), headers=about(found.answer))


def _limits(given: Any) -> Dict[str, float]:
    """The least score, 0 to 100, by label; "*" for all others. Raises Refusal."""
    if given is None:
        return {"*": 0.0}
    if not isinstance(given, dict) or len(given) > _MOST_LABELS:
        raise Refusal(INVALID, "detect is an object with a score for each label")
    return {str(label): number(value, "detect") for label, value in given.items()}


def _described(detector: Detector) -> Dict[str, Any]:
    height, width, channels = detector.shape[1:] if len(detector.shape) == 4 else (0, 0, 0)
    if channels not in feeding.CHANNELS and height in feeding.CHANNELS:  # channels first
        channels, height, width = height, width, channels
    return {
        "name": detector.name,
        "type": "tflite",
        "model": "%s:%d" % (detector.name, detector.version),
        "labels": detector.labels,
        "width": width,
        "height": height,
        "channels": channels,
    }
