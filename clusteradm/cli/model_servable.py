"""What `clusteradm model show` says of a servable that is no model."""

from __future__ import annotations

import json
from collections.abc import Iterator

from clusteradm.node.spec.servables.transforms import described
from clusteradm.node.spec.wire.manifest import Manifest
from clusteradm.node.spec.wire.servables import Feature, Servable, Step


def rows(about: Manifest) -> Iterator[tuple[str, str]]:
    """Names and texts of its properties."""
    servable = about.servable
    assert servable is not None  # noqa: S101 - whoever calls has looked
    yield "kind", servable.kind
    yield "files", ", ".join(servable.files) + f" ({about.bytes:,} bytes)" if servable.files else "none"
    yield "sha256", about.sha256
    yield from (("input", f"{tensor.name}: {described(tensor)}") for tensor in about.inputs)
    yield from (("output", f"{tensor.name}: {described(tensor)}") for tensor in about.outputs)
    yield from _definition(servable)
    if about.description:
        yield "description", about.description


def _definition(servable: Servable) -> Iterator[tuple[str, str]]:
    if servable.lookup is not None:
        default = servable.lookup.default
        yield "unknown", "refused" if default is None else f"{json.dumps(default)} instead"
    if servable.python is not None:
        python = servable.python
        yield "function", f"{python.entry_point}({_options(python.parameters)}), an entry point of a package"
        yield "limits", f"{python.memory} MiB, {python.seconds:g} s a call"
    yield from (("feature", _feature(each)) for each in servable.features)
    yield from (("step", _step(each)) for each in servable.steps)


def _options(values: dict[str, object]) -> str:
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in values.items())


def _feature(feature: Feature) -> str:
    return f"{feature.output}: {feature.op} of {', '.join(feature.inputs)}"


def _step(step: Step) -> str:
    sources = ", ".join(f"{name} from {source}" for name, source in step.inputs.items())
    return f"{step.name}: {step.op or f'model {step.model}'}, {sources}"
