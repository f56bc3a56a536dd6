"""A model and some schemes in, the space of recipes that a search walks out.

A group of linears takes one scheme: all linears of a component (`component`, as published), or one
linear alone (`layer`). A candidate is one scheme for every group, and a recipe for `compress`.
"""

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self

import numpy as np
from torch import nn
from transformers import PreTrainedModel

from nxmi_export.compression.encoder_layout import layout_of
from nxmi_export.errors import UsageError
from nxmi_export.recipe import Component, Recipe, Scheme

__all__ = [
    "DEFAULT_SCHEMES",
    "Candidate",
    "Granularity",
    "Group",
    "SearchSpace",
    "check_used",
    "recipe_for",
    "schemes_of",
]

Granularity = Literal["component", "layer"]

DEFAULT_SCHEMES = tuple(
    Scheme.parse(text) for text in ("2:4", "int8", "int4", "2:4+int8", "2:4+int4")
)
DEFAULT_GROUP = "default"  # linears of no component, which a recipe reaches by its `default`
MAX_DRAWS = 10_000  # of `random`: a budget that so few candidates meet is for the solver
_SPELT_OUT = 12  # groups whose schemes still make a readable name


@dataclass(frozen=True)
class Group:
    """Linears that take one scheme together, and the schemes that fit all of them."""

    name: str  # "query", "query+key+value" where they are one linear, or a module name
    linears: tuple[str, ...]
    weights: int  # of all its linears, dense
    options: tuple[Scheme, ...]

    @cached_property
    def by_text(self) -> Mapping[str, Scheme]:
        """The options as `Candidate` names them."""
        return {str(scheme): scheme for scheme in self.options}


@dataclass(frozen=True, order=True)
class Candidate:
    """One scheme, as a recipe writes it, for every group of a space, in the space's order."""

    schemes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Short, and the same wherever and whenever it is made; unique within a space."""
        if len(self.schemes) <= _SPELT_OUT:
            return "/".join(self.schemes)
        counts = sorted(Counter(self.schemes).items(), key=lambda item: (-item[1], item[0]))
        digest = hashlib.sha256("/".join(self.schemes).encode()).hexdigest()
        return f"{', '.join(f'{count} {text}' for text, count in counts)} #{digest[:8]}"


@dataclass(frozen=True)
class SearchSpace:
    """Every way to give one scheme to each group."""

    granularity: Granularity
    groups: tuple[Group, ...]  # in order of execution

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        granularity: Granularity,
        schemes: tuple[Scheme, ...] = DEFAULT_SCHEMES,
    ) -> Self:
        """The space of `model`; a scheme is an option where its pattern divides every input width.

        Raises UnsupportedModel for an unknown architecture, and UsageError for no schemes at all,
        one that is given twice, or a linear that none of them fits.
        """
        _check_schemes(schemes)
        members: dict[str, list[str]] = {}
        for block in layout_of(model):
            for linear, components in block.linears.items():
                name = linear if granularity == "layer" else _group_name(components)
                members.setdefault(name, []).append(linear)
        groups = (_group(model, name, linears, schemes) for name, linears in members.items())
        return cls(granularity, tuple(groups))

    @property
    def size(self) -> int:
        """The number of candidates, whatever they cost."""
        return math.prod(len(group.options) for group in self.groups)

    @property
    def weights(self) -> int:
        """The number of weights of all linears, dense."""
        return sum(group.weights for group in self.groups)

    def candidates(self) -> Iterator[Candidate]:
        """All of them, in one fixed order; per layer there are too many to ever see the last."""
        for texts in itertools.product(*(group.by_text for group in self.groups)):
            yield Candidate(texts)

    def candidate(self, schemes: Mapping[str, Scheme]) -> Candidate:
        """The candidate that gives every linear of `schemes`, by module name, its scheme.

        Raises UsageError where the linears of one group differ or a scheme is no option.
        """
        return Candidate(tuple(_choice(group, schemes) for group in self.groups))

    def uniform(self, scheme: Scheme) -> Candidate:
        """The same scheme everywhere; raises UsageError where it is no option."""
        return self.candidate({name: scheme for group in self.groups for name in group.linears})

    def uniforms(self) -> tuple[Candidate, ...]:
        """The candidates of one scheme throughout, as far as each group has it; else its first."""
        texts = dict.fromkeys(text for group in self.groups for text in group.by_text)
        found = (
            Candidate(
                tuple(
                    text if text in each.by_text else next(iter(each.by_text))
                    for each in self.groups
                )
            )
            for text in texts
        )
        return tuple(dict.fromkeys(found))

    def random(self, rng: np.random.Generator, feasible: Callable[[Candidate], bool]) -> Candidate:
        """One candidate, uniform among the feasible ones.

        Raises UsageError where `MAX_DRAWS` candidates are drawn and none is feasible.
        """
        options = [tuple(group.by_text) for group in self.groups]
        for _ in range(MAX_DRAWS):
            drawn = Candidate(tuple(texts[rng.integers(len(texts))] for texts in options))
            if feasible(drawn):
                return drawn
        raise UsageError(
            "random candidate",
            expected=f"a feasible one among {MAX_DRAWS} draws",
            found="none",
            remedy="allow a larger budget",
        )


def schemes_of(space: SearchSpace, candidate: Candidate) -> dict[str, Scheme]:
    """The scheme of every linear by module name."""
    return {
        linear: group.by_text[text]
        for group, text in zip(space.groups, candidate.schemes, strict=True)
        for linear in group.linears
    }


def recipe_for(space: SearchSpace, candidate: Candidate, base: Recipe) -> Recipe:
    """`base` with the candidate's schemes and none of its own.

    They stand under `schemes` where the space is per component, under `overrides` by module name
    where it is per layer. `default` speaks for the linears of no component; where there are none,
    it is the scheme of most weights.
    """
    chosen = {
        group.name: group.by_text[text]
        for group, text in zip(space.groups, candidate.schemes, strict=True)
    }
    weights: Counter[Scheme] = Counter()
    for group in space.groups:
        weights[chosen[group.name]] += group.weights
    update = {"default": max(weights, key=lambda scheme: (weights[scheme], str(scheme)))}
    if space.granularity == "layer":
        # Module names are identifiers and numbers, so that as patterns they match themselves only.
        return base.model_copy(update={**update, "schemes": {}, "overrides": chosen})
    update["default"] = chosen.pop(DEFAULT_GROUP, update["default"])
    schemes = {
        Component(part): scheme for name, scheme in chosen.items() for part in name.split("+")
    }
    return base.model_copy(update={**update, "schemes": schemes, "overrides": {}})


def _group_name(components: tuple[Component, ...]) -> str:
    return "+".join(components) or DEFAULT_GROUP


def _group(model: nn.Module, name: str, linears: list[str], schemes: tuple[Scheme, ...]) -> Group:
    widths, weights = set(), 0
    for linear in linears:
        module = model.get_submodule(linear)
        assert isinstance(module, nn.Linear)
        widths.add(module.in_features)
        weights += module.weight.numel()
    options = tuple(
        scheme
        for scheme in schemes
        if scheme.pattern is None or not any(width % scheme.pattern.group for width in widths)
    )
    if not options:
        raise UsageError(
            f"search space of {name}",
            expected=f"a scheme that fits input width {_listed(sorted(widths))}",
            found=_listed(schemes),
            remedy="add int8, int4 or dense to the schemes",
        )
    return Group(name, tuple(linears), weights, options)


def _choice(group: Group, schemes: Mapping[str, Scheme]) -> str:
    wanted = {str(schemes[linear]) for linear in group.linears}
    if len(wanted) > 1:
        raise UsageError(
            group.name,
            expected="one scheme for all of its linears",
            found=_listed(sorted(wanted)),
            remedy="search per layer, where each linear has its own",
        )
    [text] = wanted
    if text not in group.by_text:
        raise UsageError(
            group.name,
            expected=f"a scheme among {_listed(group.options)}",
            found=text,
            remedy="choose one of these, or add it to the schemes of the search",
        )
    return text


def _check_schemes(schemes: tuple[Scheme, ...]) -> None:
    twice = [str(scheme) for scheme, count in Counter(schemes).items() if count > 1]
    if twice or not schemes:
        raise UsageError(
            "schemes of the search",
            expected="at least one, each once",
            found=f"{_listed(twice)} twice" if twice else "none",
            remedy=f"name some of dense, {_listed(DEFAULT_SCHEMES)}",
        )


def check_used(schemes: tuple[Scheme, ...], spaces: Iterable[SearchSpace]) -> None:
    """Raise UsageError for a scheme that fits nowhere: it must not seem to have been searched."""
    used = {scheme for space in spaces for group in space.groups for scheme in group.options}
    if unused := [scheme for scheme in schemes if scheme not in used]:
        raise UsageError(
            "schemes of the search",
            expected="each to fit the input width of some linear",
            found=f"{_listed(unused)}, whose pattern divides none of them",
            remedy="leave that out, or give a pattern such as 2:4",
        )


def _listed(words: Iterable[object]) -> str:
    return ", ".join(map(str, words))
