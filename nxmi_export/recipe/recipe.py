"""What to do to each encoder linear, and how to train it: the `Recipe`.

A recipe is data (YAML or JSON), validated here and saved inside every compressed checkpoint, so
that a checkpoint alone says how to rebuild the model that was trained.
"""

import fnmatch
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nxmi_export.errors import RecipeError
from nxmi_export.recipe.complaint import as_recipe_error, in_words
from nxmi_export.recipe.read import read_plain_data
from nxmi_export.recipe.scheme import Component, Placement, Scheme, SchemeField, conflict
from nxmi_export.recipe.settings import (
    ActivationSettings,
    DistillationSettings,
    SparsitySettings,
    TrainingSettings,
    WeightSettings,
)

__all__ = ["Recipe"]


class Recipe(BaseModel):
    """The schemes of a model's encoder linears, their quantizers, and how to train towards them.

    `overrides` maps module-name patterns (as in `fnmatch`) to schemes; the first that matches
    wins over `schemes`, which speaks for whole component types, which wins over `default`.
    `embeddings` speaks for the tables of words, positions and token types, which are no linears
    and count in no compression. The defaults are the preset `deploy`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    default: SchemeField = Scheme.parse("2:4+int8")
    schemes: dict[Component, SchemeField] = Field(default_factory=dict)
    overrides: dict[str, SchemeField] = Field(default_factory=dict)
    embeddings: Literal["dense", "int8"] = "dense"  # the tables; scales as `weights` has them
    placement: Placement = Placement.SPARSE
    weights: WeightSettings = WeightSettings()
    activations: ActivationSettings = ActivationSettings()
    sparsity: SparsitySettings = SparsitySettings()
    distillation: DistillationSettings = DistillationSettings()
    training: TrainingSettings = TrainingSettings()

    @model_validator(mode="after")
    def _deploys_only_static_scales(self) -> Self:
        if self.activations.mode == "dynamic" and self.placement is not Placement.LINEAR:
            raise conflict(
                f"activations.mode: dynamic with placement: {self.placement}",
                "write placement: linear, as the other placements are for static scales",
            )
        return self

    def scheme_of(self, component: Component, module: str) -> Scheme:
        """The scheme of one linear, named as PyTorch names it."""
        for pattern, scheme in self.overrides.items():
            if fnmatch.fnmatchcase(module, pattern):
                return scheme
        return self.schemes.get(component, self.default)

    @classmethod
    def from_mapping(cls, mapping: object, *, source: object) -> Self:
        """Validate plain data; raises RecipeError naming what is at fault and what to write."""
        if not isinstance(mapping, dict):
            raise RecipeError(
                source,
                expected="a mapping of recipe keys",
                found=in_words(mapping),
                remedy=f"the keys are {', '.join(cls.model_fields)}",
            )
        try:
            return cls.model_validate(mapping)
        except ValidationError as error:
            raise as_recipe_error(error, source, cls) from error

    @classmethod
    def from_yaml(cls, path: Path) -> Self:
        """Read a recipe file, YAML or (by its suffix) JSON.

        Raises RecipeError if the file cannot be read, is neither, or holds no valid recipe.
        """
        return cls.from_mapping(read_plain_data(path), source=path)

    def as_mapping(self) -> dict[str, Any]:
        """Plain data that `from_mapping` reads back to an equal recipe."""
        return self.model_dump(mode="json")
