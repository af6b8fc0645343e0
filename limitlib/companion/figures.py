"""One look for every figure, and one way to keep it: SVG, PNG, CSV and alternative text, or an error.

White card, legible on a dark page; Okabe-Ito colours told apart by marker and dash too; 9-10 pt at final size.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any, cast

from limitlib.companion import notebook, paths

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's colour-blind safe palette (2008), in the order of use, with the marker and dash that go with each.
PALETTE = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "yellow": "#F0E442",
    "black": "#1a1a1a",
}
ORDER = ("blue", "vermillion", "green", "purple", "orange", "sky", "black")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
#: Width of the text column, inches.
WIDTH = 7.0

STYLE: dict[str, Any] = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "figure.dpi": 110,
    "svg.hashsalt": "limitlib",
    "svg.fonttype": "path",
}


def new_figure(rows: int = 1, columns: int = 1, *, height: float = 3.1, width: float = WIDTH, **options: Any) -> tuple:
    """``(figure, axes)`` in the book's style; ``height`` in inches for the whole figure; options as ``Figure.subplots``.

    The figure is not pyplot's: it is shown by :func:`save_figure`, once, and never by a cell that is not finished with it.
    """
    import matplotlib as mpl
    from cycler import cycler
    from matplotlib.figure import Figure

    mpl.rcParams.update(cast(Any, STYLE))
    n = len(ORDER)
    mpl.rcParams["axes.prop_cycle"] = (
        cycler(color=[PALETTE[c] for c in ORDER]) + cycler(marker=MARKERS[:n]) + cycler(linestyle=DASHES[:n])
    )
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def direct_label(ax: Axes, x: float, y: float, text: str, color: str = "black", **options: Any) -> None:
    """Write ``text`` beside a curve, in its colour, on a white halo: a legend that needs no looking up."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=3, foreground="white")]
    ax.annotate(text, (x, y), **{"color": PALETTE.get(color, color), "fontsize": 8.5, "xytext": (4, 0),
                "textcoords": "offset points", "va": "center", "path_effects": halo, **options})  # fmt: skip


def save_figure(fig: Figure, name: str, *, alt: str, data: Any, badge: str = "measured") -> None:
    """Keep a figure: ``build/figures/<name>.svg``, ``.png``, ``.csv``; show it in the notebook.

    name: ``NN-topic-finding``, beginning with the notebook's number. alt: a sentence that states the finding for a reader who
    can't see it (at least 40 characters). data: what is drawn, as a mapping of columns, rows or a frame. badge: as in
    ``record``.
    Raises ValueError if alt or data is missing or the title states nothing.
    """
    here = notebook.name()
    if not re.fullmatch(r"\d\d-[a-z0-9-]+", name) or (here != "scratch" and not name.startswith(here[:3])):
        raise ValueError(f"figure name {name!r} must be NN-topic-finding in lower case, NN the notebook's number ({here[:2]})")
    if len(alt.strip()) < 40:
        raise ValueError(f"{name}: alt={alt!r} is too short to state the finding (40 characters at least)")
    if badge not in notebook.BADGES:
        raise ValueError(f"{name}: badge {badge!r} is none of {', '.join(notebook.BADGES)}")
    titles = [fig.get_suptitle()] + [ax.get_title(loc) for ax in fig.axes for loc in ("left", "center")]
    if not any(titles):
        raise ValueError(f"{name}: give the figure a title that states the finding")
    table = notebook.csv_text(data)
    base = paths.build() / "figures" / name
    svg = io.BytesIO()
    fig.savefig(svg, format="svg", metadata={"Date": None})
    fig.set_layout_engine("none")  # the places are found; finding them again takes as long as drawing
    png = io.BytesIO()
    fig.savefig(png, format="png", dpi=200, metadata={"Software": None})
    paths.write_atomic(base.with_suffix(".svg"), svg.getvalue())
    paths.write_atomic(base.with_suffix(".png"), png.getvalue())
    paths.write_atomic(base.with_suffix(".csv"), table)
    notebook.update("figures", name, {"alt": " ".join(alt.split()), "badge": badge})
    show(svg.getvalue().decode(), name, alt)


def show(svg: str, name: str, alt: str) -> None:
    """Display the picture in a running kernel, telling the runner its name and alternative text."""
    try:
        from IPython import get_ipython
        from IPython.display import publish_display_data
    except ImportError:
        return
    if get_ipython() is not None:
        publish_display_data({"image/svg+xml": svg, "text/plain": alt}, {"limitlib": {"figure": name, "alt": alt}})
