"""Figures: inline SVG for the report (text in the page's colour), PNG for MLflow. Matplotlib is imported on use."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adcore.core.columns import Column
from adcore.engine import registry
from adcore.results.contenders import ContenderResult, headline
from adcore.results.trained import epoch_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"  # replaced by currentColor, so that one SVG suits light and dark pages
TENTHS = (0, 0.2, 0.4, 0.6, 0.8, 1)
MOST = 8  # contenders drawn in one figure
MOST_RANKS = 24  # of which a diagram of ranks can still be read
Curves = Mapping[str, Sequence[float]]


def category_svg(contenders: Sequence[ContenderResult]) -> str:
    """A dot a category and a bar for the mean, best contender on top."""
    metric, shown = headline(contenders), contenders[:MOST]
    column = registry.column(metric)
    figure, axes = _figure(4.4, 1.1 + 0.45 * len(shown))
    for i, contender in enumerate(shown):
        values = [column.value(mean) for mean in contender.category_means(metric)]
        axes.plot(values, np.full(len(values), i), "o", alpha=0.45, markersize=5, markeredgewidth=0, color=f"C{i}")
        axes.plot([column.value(contender.means[metric])] * 2, [i - 0.3, i + 0.3], color=f"C{i}", linewidth=3)
    axes.set_yticks(range(len(shown)), [_short(contender.name) for contender in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel(_label(column))
    axes.set_title("dot: category, bar: mean", fontsize=8.5)
    return _svg(figure)


def _label(column: Column) -> str:
    return ", ".join(filter(None, [column.title, column.unit]))


def roc_svg(curves: Mapping[str, Sequence[Curves]]) -> str:
    """Mean image ROC curve over cells, one a contender. curves: name -> the fpr/tpr curves of its cells."""
    figure, axes = _figure(4.0, 3.4)
    axes.plot([0, 1], [0, 1], ":", color=INK, linewidth=0.8, alpha=0.5)
    for i, (name, cells) in enumerate(list(curves.items())[:MOST]):
        if cells:
            axes.plot(*mean_roc(cells), color=f"C{i}", label=_short(name), linewidth=1.8)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(0, 1.01))
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return _svg(figure)


def cost_svg(contenders: Sequence[ContenderResult]) -> str:
    """Headline metric against latency (milliseconds an image, logarithmic), of the hardware that most were measured on,
    since that of others does not compare; '' where no latency was measured."""
    metric, shown = headline(contenders), contenders[:MOST]
    column = registry.column(metric)
    found = [(i, each.cost("score_ms"), column.value(each.means[metric])) for i, each in enumerate(shown)]
    found = [(i, x, y) for i, x, y in found if not math.isnan(x + y)]
    if not found:
        return ""
    places = [shown[i].hardware for i, _, _ in found]
    hardware = max(places, key=places.count)
    points = [point for point, place in zip(found, places, strict=True) if place == hardware]
    from matplotlib.ticker import LogLocator, NullLocator

    figure, axes = _figure(4.0, 3.4)
    for i, x, y in points:
        axes.plot(x, y, "o", markersize=8, color=f"C{i}")
    axes.set(xscale="log", xlabel="ms / image (batch 1)", ylabel=_label(column))
    left = f"; {len(found) - len(points)} measured elsewhere" * (len(points) < len(found))
    axes.set_title(f"colours as beside\n{hardware}{left}", fontsize=8.5)
    axes.margins(0.25)
    digits = (1.0, 2.0, 5.0)  # at which a tick is told; more would overlap
    axes.xaxis.set_major_locator(LogLocator(subs=digits))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return _svg(figure)


def ranks_svg(ranks: Mapping[str, float], critical: float) -> str:
    """Critical-difference diagram (Demsar, JMLR 7, 2006): average ranks, best on the left, and bars that join those
    less than `critical` apart; the best of many contenders."""
    from pandas import DataFrame
    from scikit_posthocs import critical_difference_diagram

    shown = dict(sorted(ranks.items(), key=lambda item: item[1])[:MOST_RANKS])
    values = np.array(list(shown.values()))
    names = list(shown)
    alike = DataFrame(np.abs(values[:, None] - values) < critical, index=names, columns=names).astype(float)
    figure, axes = _figure(5.0 + 0.11 * max(map(len, names)), 1.1 + 0.17 * len(names))
    axes.grid(False)
    axes.spines["top"].set_visible(True)
    bar: dict[str, Any] = {"color": INK, "linewidth": 3.0}
    critical_difference_diagram(
        shown,
        alike,
        ax=axes,
        label_fmt_left="{label} {rank:.2f} ",
        label_fmt_right=" {rank:.2f} {label}",
        label_props={"fontsize": 8.5},
        elbow_props={"color": INK, "linewidth": 1.0},
        marker_props={"color": INK, "s": 14},
        crossbar_props=bar,
    )
    axes.plot([values[0], values[0] + critical], [1.7, 1.7], **bar)  # above the ticks' labels
    axes.text(values[0] + critical / 2, 2.0, f"CD = {critical:.2f}", ha="center", fontsize=8.5)
    return _svg(figure)


def epochs_svg(
    curves: Mapping[str, Sequence[Sequence[float]]], title: str, chances: Mapping[str, float] | None = None
) -> str:
    """A training's curve by epoch: a thin line a category and a thick one for their mean, a colour a part.

    chances: part -> a level to beat, dotted."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _figure(4.0, 3.0)
    for i, (name, lines) in enumerate(list(curves.items())[:MOST]):
        for values in lines:
            axes.plot(range(1, len(values) + 1), values, color=f"C{i}", linewidth=0.8, alpha=0.4)
        mean = epoch_mean(lines)
        axes.plot(range(1, len(mean) + 1), mean, "o-", markersize=4, color=f"C{i}", linewidth=2, label=_short(name))
        if chances and name in chances:
            axes.axhline(chances[name], color=f"C{i}", linestyle=":", linewidth=1)
    axes.set(xlabel="epoch", ylabel=title)
    axes.set_title("thin: category, thick: mean" + (", dotted: chance" if chances else ""), fontsize=8.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def epochs_png(path: Path, curves: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """A panel a curve of a training (`sbm.loss`, ...), one line a category. curves: name -> category -> values."""

    def draw(axes: Any) -> None:
        for ax, (title, lines) in zip(axes[0], curves.items(), strict=True):
            for name, values in lines.items():
                ax.plot(range(1, len(values) + 1), values, label=name)
            ax.set(xlabel="epoch", title=title)
            ax.legend(fontsize=7, frameon=False)

    _png(path, 1, len(curves), draw)


def curves_png(path: Path, cells: Mapping[str, Mapping[str, Curves]]) -> None:
    """ROC (left) and precision-recall (right) by category, image level above pixel level where there are masks.

    cells: category -> level (`image`, `pixel`) -> fpr, tpr, recall, precision."""
    levels = [level for level in ("image", "pixel") if any(_drawn(cell, level) for cell in cells.values())]
    if not levels:
        return
    pairs = [("fpr", "tpr", "ROC"), ("recall", "precision", "precision-recall")]

    def draw(axes: Any) -> None:
        for row, level in enumerate(levels):
            for column, (x, y, title) in enumerate(pairs):
                _draw_curves(axes[row, column], {k: v[level] for k, v in cells.items() if _drawn(v, level)}, x, y)
                axes[row, column].set_title(f"{level} {title}", fontsize=9)
        axes[0, 0].legend(fontsize=7, frameon=False)

    _png(path, len(levels), 2, draw)


def mean_roc(cells: Sequence[Curves]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Vertical average of ROC curves: (false positive rates (201,), mean true positive rates (201,))."""
    grid = np.linspace(0, 1, 201)
    rates = np.mean([np.interp(grid, cell["fpr"], cell["tpr"]) for cell in cells], axis=0)
    return np.concatenate([[0.0], grid]), np.concatenate([[0.0], rates])


def _drawn(cell: Mapping[str, Curves], level: str) -> bool:
    return bool(cell.get(level, {}).get("fpr"))  # no masks, or images of one class only


def _draw_curves(axes: Axes, cells: Mapping[str, Curves], x: str, y: str) -> None:
    for name, cell in cells.items():
        axes.plot(cell[x], cell[y], label=name, linewidth=1.2)
    axes.set(xlabel=x, ylabel=y, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xticks=TENTHS, yticks=TENTHS)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2, color=INK, linewidth=0.6)
    axes.tick_params(labelsize=8.5)
    return figure, axes


def _svg(figure: Figure) -> str:
    """SVG without XML header, scaled by its container; the same figure gives the same bytes."""
    import matplotlib

    out = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "adcore"}):
        _ink(figure)
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    svg = out.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def _ink(figure: Figure) -> None:
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_color(INK)
    for axes in figure.axes:
        axes.tick_params(which="both", color=INK, labelcolor=INK)
        for spine in axes.spines.values():
            spine.set_edgecolor(INK)


def _png(path: Path, rows: int, columns: int, draw: Callable[[Any], None]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * columns, 3.2 * rows))
    # Fixed margins: a constrained layout draws everything twice, and there is one such figure a run.
    margins = {"left": 0.14, "right": 0.97, "bottom": 0.16 / rows, "top": 0.92, "wspace": 0.3, "hspace": 0.45}
    draw(figure.subplots(rows, columns, squeeze=False, gridspec_kw=margins))
    figure.savefig(path, dpi=90)


def _short(name: str) -> str:
    return name if len(name) <= 34 else name[:33] + "…"
