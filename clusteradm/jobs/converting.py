"""Conversion of a network to 8 bits from beginning to end: read, calibrate, quantise, compare with the float model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clusteradm import regular
from clusteradm.jobs import truth as truths
from clusteradm.jobs.alone import Alone, Answers, Tensors
from clusteradm.jobs.inputs import LocalInputs
from clusteradm.jobs.truth import Accuracy
from clusteradm.models import advice
from clusteradm.models.convert.conversion import conversion, difference
from clusteradm.models.convert.source import Source
from clusteradm.models.inspection.report import Report, report
from clusteradm.models.tflite.model import EIGHT_BITS, Model
from clusteradm.models.upload import label_file, labels_inside
from clusteradm.node.spec import feeding
from clusteradm.node.spec.wire.job import InputForm
from clusteradm.node.spec.wire.manifest import Feed

Say = Callable[[str], None]
# Called with what is done, how much of it, and how much in all.
Progress = Callable[[str, int, int], None]

FEW = 100  # calibration inputs, below which the ranges of numbers are a matter of chance
# What a float input without metadata is fed with: black to white is -1 to 1.
_BY_TYPE = Feed((127.5,), (127.5,), None, "user")


@dataclass(frozen=True)
class Plan:
    """What is asked for. `mean`, `std`, `layout`: how pictures are fed; `labels`: their file, for the truth."""

    ends: str = "uint8"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: str | None = None
    labels: Path | None = None
    truth: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Output:
    """Difference of the float and the 8-bit model's numbers of one output, in real numbers: mean, worst, the range."""

    name: str
    mean: float
    worst: float
    low: float
    high: float


@dataclass(frozen=True)
class Converted:
    """The result. `content`: the 8-bit .tflite; `float_bytes`: of the float one.

    `fed`: how pictures were fed, in words; `feed_options`: what `deploy-model` is to be told, where the type of the
    input alone does not say it; `same`: of how many inputs both models give the same first answer, None where it is
    no classifier.
    """

    content: bytes
    report: Report
    float_bytes: int
    samples: int
    low: float
    high: float
    fed: str
    feed_options: str
    outputs: tuple[Output, ...]
    same: int | None
    accuracy: tuple[Accuracy, Accuracy] | None
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The result as JSON values, without the model itself."""
        before, after = self.accuracy or (None, None)
        return {
            "bytes": len(self.content),
            "float_bytes": self.float_bytes,
            "calibration": {"inputs": self.samples, "low": self.low, "high": self.high, "fed": self.fed},
            "outputs": [asdict(one) for one in self.outputs],
            "same_first_answer": self.same,
            "accuracy": {"float": before.to_json(), "int8": after.to_json()} if before and after else None,
            "warnings": list(self.warnings),
            "model": self.report.to_json(),
        }


def convert(source: Source, inputs: LocalInputs, plan: Plan, output: Path, say: Say, progress: Progress) -> Converted:
    """Convert `source`, calibrated with `inputs`. `output`: where the result will be, for what is said of it.

    Raises UsageError for a source, an input or labels that cannot be used, or where the converter is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="clusteradm-convert-") as name:
        folder = Path(name)
        with conversion(source, folder, plan.ends, say) as going:
            feed = advice.feed(going.model, plan.mean, plan.std, plan.layout)
            form = advice.form(going.model.inputs[0], feed)
            named = label_file(plan.labels, going.model.classes) if plan.labels else ()
            alone = Alone(inputs, folder)
            tensors = alone.tensors(form, lambda done, total: progress("reading the inputs", done, total))
            content = going.quantise(tensors.path, lambda done, total: progress("calibrating", done, total))
            model = going.model
        quantised = folder / "quantised.tflite"
        quantised.write_bytes(content)
        about = report(content, regular.readable(output))
        problems: list[str] = []
        labels = named or labels_inside(content, about.model, problems)
        after_form = advice.form(about.model.inputs[0], _explicit(feed))

        def run(path: Path, taken: InputForm, what: str) -> Answers:
            return alone.answers(path, taken, labels, 1, lambda done, total: progress(what, done, total))

        before = run(going.floats, form, "running the float model")
        after = run(quantised, after_form, "running the 8-bit model")
        return Converted(
            content=content,
            report=about,
            float_bytes=going.floats.stat().st_size,
            samples=tensors.count,
            low=tensors.low,
            high=tensors.high,
            fed=_fed(form) if tensors.pixels else "arrays",
            feed_options=_options(after_form, plan) if tensors.pixels else "",
            outputs=tuple(_outputs(model, before, after)),
            same=_same(before, after),
            accuracy=_accuracy(before, after, plan),
            warnings=(*_warnings(tensors, about, plan, before), *problems),
        )


def _explicit(feed: Feed | None) -> Feed:
    """How pictures are fed to the 8-bit model, so that it gets the numbers that the float one got."""
    found = feed or Feed()
    return found if found.std else Feed(_BY_TYPE.mean, _BY_TYPE.std, found.layout, "user", found.pictures)


def _fed(form: InputForm) -> str:
    try:
        rule = feeding.rule(form)
    except feeding.NoRule:
        return "arrays"
    return f"pictures of {rule.picture}, {rule.text}"


def _options(form: InputForm, plan: Plan) -> str:
    """Options of deploy-model that make it feed pictures as the model was calibrated; "" where it does so anyway."""
    feed = form.feed or Feed()
    try:
        wanted = feeding.rule(form).numbers
        if feed.source == "metadata":
            return ""
        usual = feeding.rule(InputForm(form.dtype, form.shape, form.scale, form.zero_point, Feed(layout=plan.layout)))
    except feeding.NoRule:
        return ""
    words = [f"--layout {plan.layout}"] if plan.layout else []
    if any(abs(a - b) > 1 for one in wanted for a, b in zip(one, usual.numbers[0], strict=True)):
        mean, std = (",".join(f"{value:.10g}" for value in values) for values in (feed.mean or (0.0,), feed.std))
        words = [f"--mean {mean}", f"--std {std}", *words]
    return " ".join(words)


def _outputs(model: Model, before: Answers, after: Answers) -> Iterator[Output]:
    for number, tensor in enumerate(model.outputs):
        if number not in before.outputs or number not in after.outputs:
            continue
        about = difference(before.outputs[number], after.outputs[number])
        if "mean" in about:
            yield Output(tensor.name, about["mean"], about["worst"], about["low"], about["high"])


def _same(before: Answers, after: Answers) -> int | None:
    pairs = [
        (one.top[0], other.top[0])
        for one, other in zip(before.results, after.results, strict=True)
        if one.top and other.top
    ]
    return sum(one["class"] == other["class"] for one, other in pairs) if pairs else None


def _accuracy(before: Answers, after: Answers, plan: Plan) -> tuple[Accuracy, Accuracy] | None:
    if plan.truth is None:
        return None
    found = tuple(truths.score(answers.results, plan.truth, 1) for answers in (before, after))
    return (found[0], found[1]) if found[0] and found[1] else None


def _warnings(tensors: Tensors, about: Report, plan: Plan, before: Answers) -> Iterator[str]:
    if tensors.count < FEW:
        yield (
            f"calibrated with {tensors.count} inputs only: below {FEW}, ranges of numbers are a matter of chance; give "
            "some hundred that are like those of later"
        )
    if plan.truth is not None and not truths.score(before.results, plan.truth, 1):
        yield "the truth names none of the inputs: no accuracy"
    if before.kept < tensors.count and before.outputs:
        yield f"only the outputs of the first {before.kept:,} inputs are compared: those of all take too many bytes"
    elif not before.outputs:
        yield "the outputs are not compared: they are no numbers, or those of one input take too many bytes"
    ends = {tensor.dtype for tensor in (*about.model.inputs, *about.model.outputs)} - set(EIGHT_BITS)
    if ends:
        yield f"an input or an output is of the type {', '.join(sorted(ends))}: what makes it stays on the CPU"
