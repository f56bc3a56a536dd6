"""A manifest of an artefact whose files are made up."""

from collections.abc import Mapping

from nxmi_export.artefact import LinearRecord, Manifest, Source

__all__ = ["sample_manifest"]


def sample_manifest(linears: Mapping[str, LinearRecord] | None = None) -> Manifest:
    """Of a BERT with two labels and 64 positions, which no recipe compressed."""
    return Manifest(
        created="2026-01-01T00:00:00+00:00",
        architecture="BertForSequenceClassification",
        model_type="bert",
        input_names=("input_ids",),
        position_limit=64,
        labels=("negative", "positive"),
        source=Source(path="model.pt", sha256=None),
        recipe=None,
        provenance={},
        versions={},
        linears=dict(linears or {}),
    )
