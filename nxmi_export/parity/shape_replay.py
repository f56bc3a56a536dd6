"""A rung in several shapes in, each shape's examples replayed in PyTorch without padding out.

The PyTorch model runs an example alone and unpadded, and continues after each quantizer from the
codes that the ONNX graph gave that example's own tokens, among other examples and padding. Where
that is explained, neither decides anything, in the graph nor in the model. Padding on the left
moves the tokens of models with absolute positions, so there PyTorch runs the same padded example:
both must agree on it, which a mask that was read as a length does not (see `left_padding`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from nxmi_export.backends import Feeds, Outputs, Runner
from nxmi_export.encoding import Batch, EncodedDataset
from nxmi_export.parity.explanation import Explanation
from nxmi_export.parity.graph_quantizers import GraphQuantizer, open_graph, pair_quantizers
from nxmi_export.parity.left_padding import few_lengths, to_the_left
from nxmi_export.parity.logits import Float32Array
from nxmi_export.parity.noise import LogitNoise
from nxmi_export.parity.replay import logits_with_visits
from nxmi_export.parity.rounding_ties import (
    Observed,
    explanation_of,
    objection_to_other_logits,
)
from nxmi_export.parity.shapes import ShapeParity, ShapeSetting
from nxmi_export.parity.tie_replay import TieReplay

__all__ = ["replay_shapes"]


def replay_shapes(observed: Observed, data: EncodedDataset, parity: ShapeParity) -> ShapeParity:
    """`parity` of `observed`'s candidate over `data`, its settings with replays.

    In each setting every changed example is replayed, the one whose logits moved most, and the
    shortest, which has the most padding; of padding on the left all that ran. Codes alone are read,
    so that memory is those of one batch. Raises ArtefactError for a file that cannot be read.
    """
    pairing = pair_quantizers(observed.model, open_graph(observed.onnx_path).graph)
    if pairing.complaint:
        refused = Explanation(0, False, f"{pairing.complaint}.")
        return replace(
            parity, settings=tuple(replace(each, replays=(refused,)) for each in parity.settings)
        )
    quantizers = pairing.require(observed.onnx_path)
    with observed.open(quantizers, floats=False) as runner:
        settings = tuple(
            replace(setting, replays=tuple(_setting(observed, quantizers, data, setting, runner)))
            for setting in parity.settings
        )
    return replace(parity, settings=settings)


def _setting(
    observed: Observed,
    quantizers: Mapping[str, tuple[GraphQuantizer, ...]],
    data: EncodedDataset,
    setting: ShapeSetting,
    runner: Runner,
) -> Iterator[Explanation]:
    if setting.left:
        batch = to_the_left(few_lengths(data))
        rows = list(range(len(batch.indices)))
        padded = ({name: ids[[row]] for name, ids in batch.feeds.items()} for row in rows)
        told = None if setting.logits is None else setting.logits[batch.indices]
        yield from _replays(
            observed, quantizers, batch, rows, runner.run(batch.feeds), padded, told
        )
        return
    wanted = _wanted(data, setting)
    for together in data.cut(setting.batch_size):
        rows = [row for row, index in enumerate(together) if int(index) in wanted]
        if not rows:
            continue
        batch = data.batch(together, setting.pad_to)
        outputs = runner.run(batch.feeds)
        alone = (data.padded([batch.indices[row]], None) for row in rows)
        told = None if setting.logits is None else setting.logits[batch.indices]
        yield from _replays(observed, quantizers, batch, rows, outputs, alone, told)


def _wanted(data: EncodedDataset, setting: ShapeSetting) -> set[int]:
    wanted = {int(data.by_length()[0]), *setting.changed_examples}
    return wanted if setting.furthest is None else wanted | {setting.furthest}


def _replays(
    observed: Observed,
    quantizers: Mapping[str, tuple[GraphQuantizer, ...]],
    batch: Batch,
    rows: list[int],
    outputs: Outputs,
    feeds_of_rows: Iterable[Feeds],
    reported: Float32Array | None,  # of the batch, in the task's order; None: not known
) -> Iterator[Explanation]:
    model, name = observed.model, observed.candidate.name
    noise = LogitNoise.of_model(model)
    order = slice(None) if observed.label_order is None else list(observed.label_order)
    for row, feeds in zip(rows, feeds_of_rows, strict=True):
        own = {name: array[[row]] if len(array) > 1 else array for name, array in outputs.items()}
        replay = TieReplay(quantizers, own, feeds["attention_mask"], noise.widest)
        forced = logits_with_visits(model, feeds, replay.visit)
        (findings,) = replay.findings
        logits = forced[0], own["logits"][0]
        index = int(batch.indices[row])
        objection = (
            None
            if reported is None
            else objection_to_other_logits(name, index, reported[row], logits[1][order], noise)
        )
        yield explanation_of(index, findings, quantizers, logits, noise, objection)
