"""The kinds of attack, and how many cases of each a full run has."""

from __future__ import annotations

from dataclasses import dataclass

from tests.fuzz import kills, networks, node, recordings, texts
from tests.fuzz.pool import Runner


@dataclass(frozen=True)
class Kind:
    """One kind of attack.

    Attributes:
        name: on the command line.
        title: in the table.
        run: runs a case.
        count: of cases in a full run.
    """

    name: str
    title: str
    run: Runner
    count: int


KINDS = {
    kind.name: kind
    for kind in (
        Kind("truncated", "bags, cut off", recordings.truncated_bag, 600),
        Kind("flipped", "bags, one bit flipped", recordings.flipped_bag, 600),
        Kind("videos", "videos, cut off or flipped", recordings.video, 200),
        Kind("images", "images, damaged or hostile", recordings.image, 65),
        Kind("models", "model directories", networks.model_directory, len(networks.MODELS)),
        Kind("checkpoints", "checkpoints", networks.checkpoint, len(networks.CHECKPOINTS)),
        Kind("manifests", "manifests", texts.manifest, 300),
        Kind("labels", "label sets", texts.label_set, 300),
        Kind("messages", f"bad messages, {node.BATCH} each", node.messages, 5000 // node.BATCH),
        Kind("parameters", "parameter requests", node.parameters, 1241),
        Kind("transitions", "transition requests", node.transitions, 500),
        Kind("kills", "kill -9 of a writer", kills.kill, len(kills.OUTPUTS) * kills.MOMENTS),
        Kind("recipes", "recipes", texts.recipe, 300),
    )
}
