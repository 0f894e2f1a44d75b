"""Schedule explorer: the learning rate over a run, for a warmup, a peak and a minimum."""

import ipywidgets

from shared.widgets import svg
from shared.widgets.explorer import Explorer

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 260, 70, 30, 44
POINTS = 300  # of the curve at most


def draw_schedule(rates, step, lines):
    """The picture: the curve, the chosen step on it, and lines of figures above.

    Args:
        rates: list of (step, learning rate), rising in the step.
        step: the step that is marked; it need not be among the points.
        lines: sentences to print above.
    """
    last, top = max(1, rates[-1][0]), max(rate for _, rate in rates) or 1.0

    def place(at, rate):
        return LEFT + (WIDTH - LEFT - 20) * at / last, TOP + (HEIGHT - TOP - BOTTOM) * (1 - rate / top)

    parts = [svg.text(8, 16 + 16 * number, line, 12, weight="bold") for number, line in enumerate(lines)]
    for rate in (0, top / 2, top):
        x, y = place(0, rate)
        parts.append(svg.text(x - 6, y + 4, f"{rate:.2g}", 11, anchor="end"))
        parts.append(svg.line([(x, y), place(last, rate)], "#dddddd"))
    parts.append(svg.line([place(*point) for point in rates], "#3b6fb6", 2))
    parts.append(svg.line([place(step, 0), place(step, top)], "#d9822b", 1))
    parts.append(svg.text(LEFT, HEIGHT - 8, "step 0", 11))
    parts.append(svg.text(WIDTH - 20, HEIGHT - 8, f"step {last:,}", 11, anchor="end"))
    return svg.picture(WIDTH, HEIGHT, parts)


def schedule_explorer(lr_at_step):
    """Sliders for the length of a run and its learning rates; the curve, and the rate at one step.

    Args:
        lr_at_step: (step, total_steps, warmup_steps, initial_lr, peak_lr, min_lr) -> learning rate.
    """
    controls = {
        "total_steps": ipywidgets.IntSlider(135, 1, 2_000, description="steps"),
        "warmup_steps": ipywidgets.IntSlider(20, 0, 500, description="warmup"),
        "peak": ipywidgets.FloatLogSlider(1e-2, min=-5, max=-1, step=0.1, description="peak", readout_format=".1e"),
        "initial": ipywidgets.FloatSlider(0.01, min=0, max=1, step=0.01, description="initial / peak"),
        "minimum": ipywidgets.FloatSlider(0.0, min=0, max=1, step=0.01, description="min / peak"),
        "step": ipywidgets.IntSlider(10, 0, 2_000, description="look at step"),
    }

    def computed(total_steps, warmup_steps, peak, initial, minimum, step):
        def rate(at):
            return lr_at_step(at, total_steps, warmup_steps, initial * peak, peak, minimum * peak)

        last = total_steps - 1
        spaced = {round(last * number / (POINTS - 1)) for number in range(POINTS)} | {min(warmup_steps, last)}
        step = min(step, last)
        mean = sum(rate(at) for at in range(total_steps)) / total_steps
        lines = [f"learning rate at step {step}: {rate(step):.3e}", f"mean over the run: {mean:.3e}"]
        if warmup_steps >= total_steps:
            lines[1] += "; the warmup lasts as long as the run or longer, so the peak is never reached"
        return [(at, rate(at)) for at in sorted(spaced)], step, lines

    return Explorer(
        controls,
        draw=lambda **values: draw_schedule(*computed(**values)),
        describe=lambda **values: "; ".join(computed(**values)[2]),
    )
