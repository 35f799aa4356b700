"""The plan: what is benchmarked. A YAML file, validated; an error names the wrong key and the nearest right one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from adcore.core import plan_file
from adcore.core.errors import PlanError as PlanError
from adcore.core.names import printable
from adcore.core.plugins import modules
from adcore.core.rules import MaskRule, PixelRule


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageSpec(Strict):
    """Both sides are resized to `resize` pixels, then the centre `crop` is taken (default: no crop)."""

    resize: int = Field(256, ge=16)
    crop: int | None = Field(None, ge=16)

    @model_validator(mode="after")
    def _crop_fits(self) -> ImageSpec:
        if self.crop is not None and self.crop > self.resize:
            raise ValueError(f"crop {self.crop} is larger than resize {self.resize}")
        return self

    @property
    def size(self) -> int:
        return self.crop or self.resize

    @property
    def label(self) -> str:
        return str(self.resize) if self.size == self.resize else f"{self.resize}/{self.crop}"


class BackboneSpec(Strict):
    """A timm model; `weights`: `pretrained` (a package's or timm's), `random`, or a local file, with its `sha256`.

    layers: which maps are read, where not those that the method asks for: timm's `out_indices`, or modules by name."""

    name: str = "tf_efficientnet_lite0"
    weights: str = "pretrained"
    sha256: str | None = None
    layers: Annotated[tuple[int | str, ...], Field(min_length=1)] | None = None

    @field_validator("layers")
    @classmethod
    def _ordered(cls, layers: tuple[int | str, ...] | None) -> tuple[int | str, ...] | None:
        numbers = [layer for layer in layers or () if isinstance(layer, int)]
        if numbers and len(numbers) < len(layers or ()):
            raise ValueError(f"{list(layers or ())} mixes numbers and modules; write one or the other")
        if numbers != sorted(set(numbers)) or min(numbers, default=0) < 0:
            raise ValueError(f"{numbers} must ascend from 0 without repeats, as timm gives them")
        once("layer", layers or ())
        return layers

    @property
    def label(self) -> str:
        """What tells it from other backbones of a plan."""
        parts = [f"layers={','.join(map(str, self.layers))}"] if self.layers else []
        parts += [] if self.weights == "pretrained" else [f"weights={Path(self.weights).name}"]
        return f"{self.name}({','.join(parts)})" if parts else self.name


class DatasetSpec(Strict):
    name: Annotated[str, Field(pattern=r"^\w[\w.\- ]*$", max_length=100)]  # it names files
    kind: str | None = None
    root: Path | None = None
    categories: tuple[str, ...] | None = None
    textures: tuple[str, ...] | None = None
    good: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    max_train: int | None = Field(None, ge=1)
    max_test: int | None = Field(None, ge=2)
    masks: MaskRule = MaskRule()
    pixels: PixelRule = PixelRule()
    group: str | None = None

    @field_validator("group")
    @classmethod
    def _grouping(cls, group: str | None) -> str | None:
        try:
            count = 1 if group is None else re.compile(group).groups
        except re.error as error:
            raise ValueError(f"'{group}' is no regular expression: {error}") from None
        if count != 1:
            raise ValueError(f"'{group}' has {count} pairs of parentheses; put one around what names the part")
        return group

    @field_validator("categories")
    @classmethod
    def _printable(cls, categories: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in categories or ():
            if printable(name) != name:
                raise ValueError(
                    f"a name with control characters is written as the manifest shows it: '{printable(name)}'"
                )
        return categories

    @property
    def of_kind(self) -> str:
        return self.kind or self.name


class Choice(BaseModel):
    """A name and its options: `patchcore`, or `{name: patchcore, coreset: 0.01}`. The registry checks the options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class MethodChoice(Choice):
    """A method and its options. enhancers: names of those of the plan that it is compared with; None: all."""

    enhancers: Annotated[tuple[str, ...], Field(min_length=1)] | None = None

    def takes(self, enhancer: Choice) -> bool:
        return self.enhancers is None or enhancer.name in self.enhancers


class Budget(Strict):
    memory_gb: float = Field(4.0, gt=0, allow_inf_nan=False)
    disk_gb: float = Field(20.0, ge=0, allow_inf_nan=False)


def _named(entries: Any) -> Any:
    if not isinstance(entries, list):
        return entries
    return [{"name": entry} if isinstance(entry, str) else entry for entry in entries]


def _resized(entries: Any) -> Any:
    if not isinstance(entries, list):
        return entries
    return [{"resize": entry} if isinstance(entry, int) else entry for entry in entries]


def _every_metric() -> tuple[str, ...]:
    return tuple(modules("metrics"))


Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy and scikit-learn take
Choices = Annotated[tuple[Choice, ...], BeforeValidator(_named), Field(min_length=1)]
Methods = Annotated[tuple[MethodChoice, ...], BeforeValidator(_named), Field(min_length=1)]
Datasets = Annotated[tuple[DatasetSpec, ...], BeforeValidator(_named), Field(min_length=1)]


class Plan(Strict):
    """What is benchmarked: every dataset, backbone, image size, protocol, enhancer, method and seed with every other.
    README, "Keys of a plan", says what each key means."""

    image: ImageSpec | None = None
    images: Annotated[tuple[ImageSpec, ...], BeforeValidator(_resized), Field(min_length=1)] | None = None
    backbone: BackboneSpec | None = None
    backbones: Annotated[tuple[BackboneSpec, ...], BeforeValidator(_named), Field(min_length=1)] | None = None
    datasets: Datasets
    enhancers: Choices = (Choice(name="none"),)
    methods: Methods
    protocols: Choices = (Choice(name="one-class"),)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    metrics: Annotated[tuple[str, ...], Field(min_length=1, default_factory=_every_metric)]
    evaluate_at: Literal["input", "original"] = "input"
    alarms: float | None = Field(None, gt=0, lt=1)
    budget: Budget = Budget()
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"

    @field_validator("metrics")
    @classmethod
    def _computed(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        for metric in metrics:
            known(metric, modules("metrics"), "metric")
        once("metric", metrics)
        return metrics

    @property
    def every_image(self) -> tuple[ImageSpec, ...]:
        """The image sizes, of which `image` is the only one."""
        return self.images or (self.image or ImageSpec(),)

    @property
    def every_backbone(self) -> tuple[BackboneSpec, ...]:
        """The backbones, of which `backbone` is the only one."""
        return self.backbones or (self.backbone or BackboneSpec(),)

    @model_validator(mode="after")
    def _axes(self) -> Plan:
        for name, one, several in (
            ("image", self.image, self.images),
            ("backbone", self.backbone, self.backbones),
        ):
            if one is not None and several is not None:
                raise ValueError(f"{name} and {name}s are both given; put all of them into {name}s")
        once("image", [image.label for image in self.every_image])
        once("backbone", [backbone.label for backbone in self.every_backbone])
        return self

    @model_validator(mode="after")
    def _names(self) -> Plan:
        for method in self.methods:
            for enhancer in method.enhancers or ():
                known(enhancer, [choice.name for choice in self.enhancers], "enhancer of the plan")
        once("dataset", [dataset.name for dataset in self.datasets], "give each its own name")
        once("seed", self.seeds)
        for dataset in self.datasets:
            once(f"category of {dataset.name}", dataset.categories or ())
            once(f"texture of {dataset.name}", dataset.textures or ())
        for method in self.methods:
            once(f"enhancer of {method.name}", method.enhancers or ())
        return self


def once(what: str, values: Sequence[object], mend: str = "remove one") -> None:
    """Raise ValueError for a value that is listed twice."""
    for value in dict.fromkeys(values):
        if list(values).count(value) > 1:
            raise ValueError(f"{what} '{value}' is listed twice; {mend}")


def known(name: str, names: Iterable[str], what: str) -> None:
    """Raise ValueError, with the nearest known name, unless `name` is one of `names`."""
    names = sorted(names)
    if name not in names:
        raise ValueError(f"unknown {what} '{name}'{nearest(name, names)}; known: {', '.join(names)}")


def nearest(name: str, names: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or nothing where no name is near."""
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f" (did you mean '{near[0]}'?)" if near else ""


def load(path: str | Path) -> Plan:
    """Read and check a plan's YAML file. Raises PlanError with one line a mistake."""
    path = expanded(path)
    try:
        content = plan_file.read(path)
    except ValueError as error:
        raise PlanError(str(error)) from None
    if not isinstance(content, dict):
        raise PlanError(f"{path}: a plan is a mapping with keys {', '.join(Plan.model_fields)}")
    folder = path.resolve().parent
    if printable(str(folder)) != str(folder):
        raise PlanError(f"the path of the plan, {printable(str(path))}, is not printable text; move it")
    return _anchored(parse(content, str(path)), folder)


def _anchored(plan: Plan, folder: Path) -> Plan:
    """Relative files and roots of a plan are relative to the plan's own folder."""
    datasets = tuple(d.model_copy(update={"root": _at(folder, d.root)}) if d.root else d for d in plan.datasets)
    enhancers = tuple(_anchored_choice(choice, folder) for choice in plan.enhancers)
    update: dict[str, Any] = {"datasets": datasets, "enhancers": enhancers}
    if plan.backbone:
        update["backbone"] = _anchored_backbone(plan.backbone, folder)
    if plan.backbones:
        update["backbones"] = tuple(_anchored_backbone(backbone, folder) for backbone in plan.backbones)
    return plan.model_copy(update=update)


def _anchored_backbone(backbone: BackboneSpec, folder: Path) -> BackboneSpec:
    if backbone.weights in ("pretrained", "random"):
        return backbone
    return backbone.model_copy(update={"weights": str(_at(folder, backbone.weights))})


def _anchored_choice(choice: Choice, folder: Path) -> Choice:
    """What is a file or folder beside the plan; other values of these keys are names."""
    paths = {key: _at(folder, choice.options[key]) for key in ("sources", "weights") if key in choice.options}
    there = {key: str(path) for key, path in paths.items() if path.exists()}
    return Choice(name=choice.name, **choice.options | there)


def _at(folder: Path, path: str | Path) -> Path:
    return folder / expanded(path)


def expanded(path: str | Path) -> Path:
    """A path as a person writes it, with `~` for the home folder: a shell leaves that in `--workspace=~/x` and a plan.

    Raises PlanError where there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise PlanError(f"{path}: the home folder is not known here; write the whole path") from None


def parse(content: dict[str, Any], source: str = "plan") -> Plan:
    """Check a plan given as a mapping; `source` is named in errors. Raises PlanError."""
    try:
        return Plan.model_validate(content)
    except ValidationError as error:
        raise PlanError(f"{source}: " + explain(error, Plan)) from None


def explain(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    """One clause a mistake: where it is, what is wrong, and the nearest known key."""
    return "; ".join(_clause(detail, model, prefix) for detail in error.errors())


def _clause(detail: Any, model: type[BaseModel], prefix: str) -> str:
    where = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        keys = _keys_at(model, detail["loc"][:-1])
        return f"unknown key '{prefix}{where}'{nearest(str(detail['loc'][-1]), keys)}; known: {', '.join(keys)}"
    if detail["type"] == "missing":
        return f"key '{prefix}{where}' is missing"
    message = str(detail["msg"]).removeprefix("Value error, ")
    return f"{prefix}{where}: {message}" if where else message


def _keys_at(model: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    for part in loc:
        if isinstance(part, str):
            annotation = model.model_fields[part].annotation
            model = next(m for m in _models(annotation))
    return list(model.model_fields)


def _models(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models(inner)
