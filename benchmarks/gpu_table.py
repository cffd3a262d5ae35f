"""The tables of docs/how-to/plan.md: what each GPU maps in an hour, the cores that keep it busy, and the price.

    python benchmarks/gpu_table.py        writes the tables into the page

Everything is calculated by ``halsted_ray.planning`` from rates.json; ``tests/test_benchmarks.py`` holds the page to it.
"""

from __future__ import annotations

from pathlib import Path

from halsted_ray.errors import UsageError
from halsted_ray.planning.planner import Plan, PlanSetting, plan, typical_hour
from halsted_ray.planning.rates import MEASURED, SHARE_OF_PEAK, Rates

PAGE = Path(__file__).resolve().parent.parent / "docs" / "how-to" / "plan.md"
BEGIN, END = "<!-- gpu tables: written by benchmarks/gpu_table.py -->\n", "<!-- end of gpu tables -->"
CARDS = ("H100", "H200", "A100", "L40S", "L4", "A10", "A4000")
HOURS = 10_000
CORES = 16
"""Cores of the machine of the second table."""


def planned(rates: Rates, card: str, **setting: object) -> Plan | None:
    """The plan for a large archive of 1080p30 H.264 on one GPU; None where the GPU can't do what is asked."""
    try:
        options = PlanSetting(gpu=card, **setting)  # type: ignore[arg-type]
        return plan([typical_hour()], HOURS, HOURS * 3600.0, rates, options)
    except UsageError:
        return None


def rate(found: Plan | None) -> float | None:
    """Video-hours per hour of one GPU, without the start."""
    return None if found is None else found.video_s / found.stages_s[found.bottleneck]


def shown(value: float | None, form: str = "{:,.0f}") -> str:
    """A number in a cell."""
    return "–" if value is None else form.format(value)


def by_card(rates: Rates) -> list[str]:
    """One line per GPU, with as many cores as keep it busy."""
    lines = [
        "| GPU | giant, bf16, clips/s | every window, bf16 | every window, fp8 | one vector per 15 s | cores per GPU "
        f"| … with NVDEC | {rates.prices.unit} per GPU-hour | {rates.prices.unit} per video-hour | rests on |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for card in CARDS:
        encode = rates.encoding("giant", card, SHARE_OF_PEAK)
        every = planned(rates, card, looked_at=1.0)
        fp8 = planned(rates, card, looked_at=1.0, precision="fp8")
        quarter = planned(rates, card, window_s=15.0, fidelity="keyframes")
        assert every is not None
        cores, price = every.cores_per_gpu_by_reader, rates.gpu(card).price_per_hour
        per_hour = rate(every)
        cells = [
            card,
            shown(encode.clips_per_s, "{:.1f}"),
            shown(per_hour),
            shown(rate(fp8)),
            shown(rate(quarter)),
            shown(cores["pyav"]),
            shown(cores["auto"]),
            shown(price, "{:.2f}"),
            shown(price and per_hour and price / per_hour, "{:.4f}"),
            "encoder measured, the rest derived" if encode.source == MEASURED else "derived",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def of_one_machine(rates: Rates) -> list[str]:
    """One line per GPU in a machine of ``CORES`` cores, where decoding is often the limit."""
    readers = {"cores": "pyav", "NVDEC and cores": "auto"}
    lines = [
        f"| one GPU and {CORES} cores | every window, {' | every window, '.join(readers)} | one vector per 15 s, all "
        "frames, NVDEC and cores | one vector per 15 s, key frames, cores |",
        "|---|--:|--:|--:|--:|",
    ]
    for card in CARDS:
        cells = [card]
        for reader in readers.values():
            found = planned(rates, card, looked_at=1.0, reader=reader, cores=CORES)
            cells.append(limited(found))
        cells.append(limited(planned(rates, card, window_s=15.0, reader="auto", cores=CORES)))
        cells.append(limited(planned(rates, card, window_s=15.0, fidelity="keyframes", cores=CORES)))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def limited(found: Plan | None) -> str:
    """A rate, and what limits it."""
    return "–" if found is None else f"{shown(rate(found))} ({found.limited_by})"


def tables() -> str:
    """Both tables as Markdown, with their marks."""
    rates = Rates.load()
    return BEGIN + "\n".join([*by_card(rates), "", *of_one_machine(rates)]) + "\n" + END


def main() -> None:
    """Writes the tables into the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    PAGE.write_text(before + tables() + rest.split(END)[1], encoding="utf-8")
    print(f"{PAGE.name}: tables written")


if __name__ == "__main__":
    main()
