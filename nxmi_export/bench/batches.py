"""A shape in, a batch of that shape for any of the models that are compared out."""

from collections.abc import Sequence

import numpy as np

from nxmi_export.backends import Feeds
from nxmi_export.errors import UsageError
from nxmi_export.latency import Workload

__all__ = ["batch_for"]


def batch_for(
    workload: Workload, input_names: Sequence[str], *, vocabulary: int, rng: np.random.Generator
) -> Feeds:
    """Random words without padding, of one segment.

    Time does not depend on which words they are, and padding would be work that is counted twice:
    once here, once by whoever chooses the shapes. Raises UsageError for an input of another name.
    """
    shape = (workload.batch, workload.sequence)
    known = {
        "input_ids": rng.integers(0, vocabulary, shape, dtype=np.int64),
        "attention_mask": np.ones(shape, np.int64),
        "token_type_ids": np.zeros(shape, np.int64),
    }
    if unknown := [name for name in input_names if name not in known]:
        raise UsageError(
            "model inputs",
            expected=f"none but {', '.join(known)}",
            found=", ".join(unknown),
            remedy="compare models that read the same batches",
        )
    return {name: known[name] for name in input_names}
