"""A finished compression in, the tables a person reads at its end out; and one of all presets."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from rich.markup import escape
from rich.table import Table

from nxmi_export.recipe import Recipe

__all__ = ["layers_table", "metrics_table", "presets_table", "summary_table"]


FLOAT_BITS = 16  # from here on a weight is no integer


def layers_table(facts: Mapping[str, Any]) -> Table:
    """One row per encoder linear as it is stored; `facts` is `CompressResult.as_json()`."""
    names = list(facts["layers"])
    # "bert.encoder.layer." in front of every name would leave no room for the rest.
    shared = _shared_modules(names)
    table = Table(title=f"linears of {shared}, as stored", title_justify="left")
    table.add_column("linear", overflow="fold")
    for heading in ("in x out", "pattern", "zeros", "bits"):
        table.add_column(heading, justify="right")
    for name, each in facts["layers"].items():
        shape = f"{each['inputs']} x {each['outputs']}"
        pattern = each["pattern"] or "dense"
        short = name.removeprefix(f"{shared}.")
        table.add_row(escape(short), shape, pattern, f"{each['zeros']:.1%}", str(each["bits"]))
    table.caption = "bits of every kept weight; zeros and patterns are counted on what is stored"
    table.caption_justify = "left"
    return table


def metrics_table(facts: Mapping[str, Any]) -> Table:
    """Each metric of the dense and of the compressed model, GLUE's one number last."""
    metrics = facts["metrics"]
    names = list(metrics["dense"])
    if len(names) == 2:  # a task with one metric: the mean of one says nothing more
        names = names[:1]
    table = Table(title=escape(_title(facts)), title_justify="left")
    table.add_column("metric")
    for heading in ("dense", "compressed", "retention"):
        table.add_column(heading, justify="right")
    for name in names:
        before, after = metrics["dense"][name], metrics["compressed"][name]
        kept = after / before if before and after is not None and before > 0 else None
        heading = "primary (mean)" if name == "primary" else name
        table.add_row(heading, _number(before), _number(after), _share(kept))
    return table


def summary_table(facts: Mapping[str, Any], files: Mapping[str, str]) -> Table:
    """How small the encoder became, how, and which files tell more; `files` maps words to paths."""
    table = Table(title="compression", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    saved, recipe, options = facts["compression"], facts["recipe"], facts["options"]
    table.add_row("nominal", f"{saved['nominal']:.2%} of the encoder linears' float32 size saved")
    table.add_row(
        "with metadata", f"{saved['with_metadata']:.2%}, counting the index of each kept weight"
    )
    stored = Counter(_storage(each) for each in facts["layers"].values())
    table.add_row("linears", ", ".join(f"{count} x {name}" for name, count in stored.items()))
    if facts["mask_moved"] is not None:
        table.add_row(
            "masks", f"{facts['mask_moved']:.2%} of their entries are not those of magnitude"
        )
    table.add_row("recipe", escape(str(options["recipe"])))
    table.add_row("placement", recipe["placement"])
    train = facts["data"]["train"]
    training = recipe["training"]
    table.add_row(
        "trained",
        f"{training['epochs']} epochs on {train['examples']} examples, seed {options['seed']}, "
        f"{options['precision']}, {facts['seconds']:.0f} s in all",
    )
    for what, path in files.items():
        table.add_row(what, escape(path))
    return table


def presets_table(presets: Mapping[str, tuple[Recipe, str]]) -> Table:
    """The recipes that ship with the package; each with the sentence it opens with."""
    table = Table(title="presets", title_justify="left")
    for heading in ("preset", "scheme", "placement", "sparsity", "epochs", "what it is"):
        table.add_column(heading, overflow="fold")
    for name, (recipe, sentence) in presets.items():
        method = recipe.sparsity.method if recipe.default.pattern else ""
        table.add_row(
            name,
            str(recipe.default),
            str(recipe.placement) if recipe.default.bits else "",
            method,
            str(recipe.training.epochs),
            escape(sentence),
        )
    return table


def _shared_modules(names: Sequence[str]) -> str:
    """The module that all of these are in: the leading parts that their names have in common."""
    parents = zip(*(name.split(".")[:-1] for name in names), strict=False)
    return ".".join(parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, parents))


def _title(facts: Mapping[str, Any]) -> str:
    reported = facts["data"]["reported"]
    splits = ", ".join(f"{each['split']}: {each['examples']} examples" for each in reported)
    return f"{facts['task']} {splits}"


def _storage(layer: Mapping[str, Any]) -> str:
    """As a recipe writes it: dense, 2:4, int8, 2:4+int4."""
    pattern = [layer["pattern"]] if layer["pattern"] else []
    width = [f"int{layer['bits']}"] if layer["bits"] < FLOAT_BITS else []
    return "+".join([*pattern, *width]) or "dense"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _share(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2%}"
