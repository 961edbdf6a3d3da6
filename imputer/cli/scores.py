"""An evaluation on the screen, in 80 columns: what was measured how, each case, and the cases together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_TITLES = {
    "psnr": "PSNR dB",
    "ssim": "SSIM",
    "mae": "MAE",
    "mae_hu": "MAE HU",
    "nmse": "NMSE",
    "ms_ssim": "MS-SSIM",
    "spearman": "Spearman",
    "ause": "AUSE",
    "ause_random": "AUSE by chance",
    "coverage_1": "within 1 std",
    "coverage_2": "within 2 std",
    "coverage_3": "within 3 std",
}
_TOGETHER = {"figures": "Together", "roi": "Region", "calibration": "Deviation", "against": "Against"}
_ABOUT = {"data_range_is": "data range", "mask": "mask", "crop": "crop", "normalisation": "normalisation"}


def show_evaluation(record: Mapping[str, Any]) -> None:
    """Print the record of an evaluation (`imputer.scores_file.as_record`) on stdout."""
    from rich.console import Console

    console = Console(highlight=False)
    for name, protocol in record["protocols"].items():
        console.print(f"Protocol {name} ({protocol['domain'].upper()}): {protocol['source']}.", markup=False)
    for label, text in _shared(record["cases"]):
        console.print(f"  {label}: {text}", markup=False)
    for contrast in dict.fromkeys(case["contrast"] for case in record["cases"]):
        _show_cases(console, [case for case in record["cases"] if case["contrast"] == contrast], contrast)
    for group in record["groups"]:
        _show_group(console, group)


def _shared(cases: list[dict[str, Any]]) -> Iterable[tuple[str, str]]:
    """What holds for the figures, once where it is the same for all cases."""
    for key, label in _ABOUT.items():
        said = list(dict.fromkeys(case[key] for case in cases))
        if len(said) == 1:
            yield label, said[0]
        elif said:
            rest = dict.fromkeys(text.partition(": ")[2] for text in said) if key == "data_range_is" else {}
            yield label, f"by case (CSV, JSON): {'; '.join(rest)}" if rest else "differs from case to case (CSV, JSON)"
    for key in ("slices", "voxels"):
        counts = [case[key] for case in cases]
        if counts:
            span = f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"
            yield key, f"{span} a case" if len(counts) > 1 else span


def _show_cases(console: Console, cases: list[dict[str, Any]], contrast: str | None) -> None:
    names = list(dict.fromkeys(name for case in cases for name in case["figures"]))
    table = _table(f"Cases, {contrast}" if contrast else "Cases", "case", [_TITLES[name] for name in names])
    for case in cases:
        rows = [(case["case"], case["figures"]), ("  region", case["roi"])]
        if "against" in case:
            rows += [("  against", case["against"]["figures"]), ("  against, region", case["against"]["roi"])]
        for label, figures in rows:
            if figures is not None:
                table.add_row(label, *(_figure(name, figures.get(name)) for name in names))
    console.print()
    console.print(table)


def _show_group(console: Console, group: Mapping[str, Any]) -> None:
    many = f"{group['cases']} cases" if group["cases"] > 1 else "1 case"
    named = f"{group['contrast']}, {many}" if group["contrast"] else many
    for key, title in _TOGETHER.items():
        if group[key] and (group["cases"] > 1 or key == "calibration"):
            table = _table(f"{title}: {named}", "figure", ["mean", "std", "95 % of the mean", "cases"])
            for name, each in group[key].items():
                span = _span(name, each)
                row = _figure(name, each["mean"]), _figure(name, each["std"]), span, str(each["count"])
                table.add_row(_TITLES[name], *row)
            console.print()
            console.print(table)
    for key, title in (("comparison", "PRED less the other"), ("roi_comparison", "In the region: PRED less the other")):
        if group[key]:
            table = _table(f"{title}: {named}", "figure", ["difference", "95 %", "Wilcoxon p", "least p", "cases"])
            for name, each in group[key].items():
                row = _figure(name, each["difference"]), _span(name, each), _p(each["p"]), _p(each["least_p"])
                table.add_row(_TITLES[name], *row, str(each["count"]))
            console.print()
            console.print(table)


def _table(title: str, first: str, others: list[str]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name in ("psnr", "mae_hu"):
        return f"{value:.2f}"
    return f"{value:.4g}" if name in ("mae", "nmse") else f"{value:.4f}"


def _span(name: str, each: Mapping[str, Any]) -> str:
    return "-" if each["low"] is None else f"{_figure(name, each['low'])} to {_figure(name, each['high'])}"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"
