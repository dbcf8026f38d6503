"""Members of an ensemble that is to be stored: looked up on the cluster, and whether they fit together."""

from __future__ import annotations

from clusteradm.errors import UsageError
from clusteradm.models import servables
from clusteradm.models.reference import Reference
from clusteradm.models.repository import Repository
from clusteradm.models.upload import Upload
from clusteradm.node.spec.servables import ensembles
from clusteradm.node.spec.servables.ensembles import Member
from clusteradm.node.spec.servables.problem import Problem
from clusteradm.node.spec.wire.manifest import Manifest
from clusteradm.node.spec.wire.servables import ENSEMBLE


def complete(repository: Repository, upload: Upload) -> Upload:
    """The upload; of an ensemble with the types of its outputs, by what the repository has of its members.

    Raises UsageError, which names the step, for a member that is not there, a type that does not fit, an ensemble that
    would be a member of itself.
    """
    about = upload.manifest
    servable = about.servable
    if servable is None or servable.kind != ENSEMBLE:
        return upload
    known: dict[str, Member] = {}

    def find(reference: str) -> Member:
        if reference not in known:
            try:
                _, manifest = repository.find(Reference.parse(reference))
            except UsageError as error:
                raise Problem(error.what) from None
            known[reference] = member(reference, manifest)
        return known[reference]

    try:
        ensembles.check_circle(about.name, servable, find)
        made = ensembles.ensemble(servable, about.inputs, find)
        return servables.retyped(upload, servables.declared(made, about.outputs), about.name)
    except Problem as problem:
        raise UsageError(
            str(problem),
            where=about.name,
            next_step="deploy the members first, and name their tensors: clusteradm model show MEMBER",
        ) from None


def member(reference: str, manifest: Manifest) -> Member:
    """What an ensemble has to know of a model in the repository."""
    shapes = [*manifest.inputs, *manifest.outputs]
    is_open = all(each.dynamic for each in manifest.inputs) and all(each.shape[:1] in ((1,), (-1,)) for each in shapes)
    return Member(
        reference, manifest.inputs, manifest.outputs, manifest.servable, manifest.feed, manifest.task, bool(is_open)
    )
