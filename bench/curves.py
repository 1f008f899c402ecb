"""Losses over steps as a picture, in the colours and the frame of docs/training.svg."""

from __future__ import annotations

import math
import statistics

COLOURS = ["#000000", "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#E69F00"]
WIDTH, HEIGHT = 930, 480
LEFT, RIGHT, TOP, BOTTOM = 70, 630, 60, 430

Curve = list[tuple[int, float]]


def drawn(title: str, seeds: list[dict[str, Curve]]) -> str:
    """The mean over the seeds as a line, from the least to the most as a band; named with the mean at the end."""
    kinds = list(seeds[0])
    at_step = {kind: [list(points) for points in zip(*(seed[kind] for seed in seeds))] for kind in kinds}
    losses = [loss for kind in kinds for points in at_step[kind] for step, loss in points if step > 0]
    most = max(step for points in at_step.values() for step, _ in points[-1])
    low, high = math.log(min(losses) * 0.97), math.log(max(losses) * 1.03)

    def x(step: float) -> float:
        return LEFT + (RIGHT - LEFT) * step / most

    def y(loss: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (min(high, math.log(loss)) - low) / (high - low)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 24, "start", title),
        _text(30, 50, "start", "loss on text held back (logarithmic)"),
        _text((LEFT + RIGHT) / 2, HEIGHT - 12, "middle", "inner steps"),
    ]
    for loss in (tenth / 10 for tenth in range(5, 60)):
        if low <= math.log(loss) <= high and round(loss * 10) % (1 if loss < 2 else 5) == 0:
            out.append(f'<path d="M{LEFT} {y(loss):.1f}H{RIGHT}" stroke="#ddd" fill="none"/>')
            out.append(_text(LEFT - 8, y(loss) + 4, "end", f"{loss:.1f}"))
    for part in range(5):
        step = most * part / 4
        out.append(f'<path d="M{x(step):.1f} {BOTTOM}v5" stroke="#444" fill="none"/>')
        out.append(_text(x(step), BOTTOM + 20, "middle", f"{step:.0f}"))
    for kind, colour in zip(kinds, COLOURS):
        points = [(one[0][0], [loss for _, loss in one]) for one in at_step[kind] if one[0][0] > 0]
        upper = " ".join(f"{x(step):.1f},{y(max(values)):.1f}" for step, values in points)
        lower = " ".join(f"{x(step):.1f},{y(min(values)):.1f}" for step, values in reversed(points))
        out.append(f'<polygon points="{upper} {lower}" fill="{colour}" fill-opacity="0.15"/>')
        line = "L".join(f"{x(step):.1f} {y(statistics.mean(values)):.1f}" for step, values in points)
        out.append(f'<path d="M{line}" stroke="{colour}" stroke-width="1.5" fill="none"/>')
    for number, (kind, colour) in enumerate(zip(kinds, COLOURS)):
        at = TOP + 20 * number
        out.append(f'<path d="M{RIGHT + 15} {at}h20" stroke="{colour}" stroke-width="2" fill="none"/>')
        end = statistics.mean(loss for _, loss in at_step[kind][-1])
        out.append(_text(RIGHT + 40, at + 4, "start", f"{kind}: {end:.3f}"))
    out.append(f'<path d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}" stroke="#444" fill="none"/>')
    return "\n".join([*out, "</svg>", ""])


def _text(x: float, y: float, anchor: str, text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="13" fill="#222">{escaped}</text>'
