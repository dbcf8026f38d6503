"""DeepStack's protocol, which Frigate, Home Assistant, Blue Iris and others speak: a picture in a form.

POST /v1/vision/detection with `image`; /v1/vision/custom/MODEL names a detector, /v1/vision/scene asks a classifier.
"""

from typing import Any, Dict, List, Tuple

from clusteradm.node.serve.fronts import detecting
from clusteradm.node.serve.fronts.calls import about, number, patience
from clusteradm.node.serve.fronts.exchange import Exchange, HttpError, Reply, dumps
from clusteradm.node.serve.fronts.form import read
from clusteradm.node.serve.fronts.limits import MOST_BODY
from clusteradm.node.serve.plane import BYTES, INVALID, Answer, Refusal, Request, Tensor
from clusteradm.node.spec.wire.manifest import CLASSIFIER

_LEAST = 0.4  # DeepStack's own default of min_confidence


async def answer(exchange: Exchange) -> Reply:
    """Any request below v1/vision."""
    parts = [each for each in exchange.parts[2:] if each]
    exchange.allow("POST")
    if parts == ["custom", "list"]:
        models = [each.name for each in await detecting.everywhere(exchange.desk)]
        return Reply(dumps({"success": True, "models": models}))
    if parts == ["scene"]:
        return await _scene(exchange)
    if parts == ["detection"]:
        model = ""
    elif len(parts) == 2 and parts[0] == "custom":
        model = parts[1]
    else:
        raise HttpError(404, "of DeepStack there are detection, custom/MODEL, custom/list and scene")
    picture, least = await _form(exchange)
    desk, call = exchange.desk, exchange.call
    call.model = model
    info = await desk.plane.info(model) if model else await detecting.choose(desk)
    deadline, _ = patience(exchange.headers)
    found = await detecting.picture(desk, call, info, picture, deadline, await exchange.version(info.name, None, None))
    predictions = [
        {
            "label": each.label,
            "confidence": each.score,
            "x_min": int(each.box[0]),
            "y_min": int(each.box[1]),
            "x_max": int(each.box[2]),
            "y_max": int(each.box[3]),
        }
        for each in found.objects
        if each.score >= least
    ]
    return _reply(found.answer, {"predictions": predictions, "count": len(predictions)})


async def _scene(exchange: Exchange) -> Reply:
    picture, _ = await _form(exchange)
    desk, call = exchange.desk, exchange.call
    for info in await desk.models():
        if info.task in (CLASSIFIER, None) and info.picture:
            tensor = Tensor(info.inputs[0].name, BYTES, (1,), [picture])
            deadline, _ = patience(exchange.headers)
            version = await exchange.version(info.name, None, None)
            found = await desk.infer(
                call, Request(info.name, [tensor], version, None, (), call.id, deadline, answer=True)
            )
            best = (found.result or {}).get("top")
            if best:
                label = best[0].get("label") or str(best[0]["class"])
                return _reply(found, {"label": label, "confidence": best[0]["score"]})
    raise await detecting.none(desk, "no classifier that takes pictures is served here")


def _reply(found: Answer, document: Dict[str, Any]) -> Reply:
    whole: Dict[str, Any] = {"success": True, **document}
    whole.update(
        inferenceMs=round(found.seconds * 1000, 1),
        model=found.model,
        version=found.version,
        board=found.board,
        tpu=found.device,
        code=200,
    )
    if found.simulated:
        whole["simulated"] = True
    return Reply(dumps(whole), headers=about(found))


async def _form(exchange: Exchange) -> Tuple[bytes, float]:
    """The picture, and the least confidence of an answer. Raises Refusal."""
    body = await exchange.body(MOST_BODY)
    kind = exchange.header("content-type") or ""
    if kind.startswith("image/"):
        return body, _LEAST
    fields = read(kind, body)
    pictures: List[bytes] = [fields[name] for name in ("image", "file", "image1") if fields.get(name)]
    if not pictures:
        raise Refusal(INVALID, "the form has no picture in the field image")
    text = fields.get("min_confidence", b"").decode("ascii", "replace").strip()
    return pictures[0], number(text, "min_confidence") if text else _LEAST
