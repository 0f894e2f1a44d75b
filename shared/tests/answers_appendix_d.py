"""Right and wrong answers to the exercises of appendix D, for test_exercises.py."""

import math

import torch


def lr_wsd(step, total, warmup, decay, initial, peak, low, start=None, steps=None):
    start = total - decay if start is None else start
    if step < warmup:
        return initial + step * (peak - initial) / warmup
    if step >= total:
        return low
    if step < start or not decay:
        return peak
    return peak - (peak - low) * (step - start) / (steps or decay)


def clip_by_norm(gradients, max_norm, norm_of=None, limit=True):
    norm = norm_of(gradients) if norm_of else torch.cat([g.flatten() for g in gradients]).norm().item()
    if not math.isfinite(norm):
        raise ValueError(f"the norm is {norm}")
    factor = min(1.0, max_norm / norm) if norm else 1.0
    return [gradient * (factor if limit else max_norm / (norm or 1)) for gradient in gradients], norm


def tokens_per_second(n_weights, bytes_per_weight, n_texts, operations, bandwidth):
    return n_texts / max(2 * n_weights * n_texts / operations, bytes_per_weight * n_weights / bandwidth)


def one_by_one(gradients, max_norm):
    pairs = [clip_by_norm([gradient], max_norm) for gradient in gradients]
    return [gradient for (gradient,), _ in pairs], clip_by_norm(gradients, max_norm)[1]


def in_place(gradients, max_norm):
    clipped, norm = clip_by_norm(gradients, max_norm)
    for gradient, new in zip(gradients, clipped):
        gradient.copy_(new)
    return gradients, norm


def by_value(gradients, max_norm):
    return [gradient.clamp(-max_norm, max_norm) for gradient in gradients], clip_by_norm(gradients, max_norm)[1]


def no_check(gradients, max_norm):
    norm = torch.cat([g.flatten() for g in gradients]).norm().item()
    return [gradient * min(1.0, max_norm / max(norm, 1e-9)) for gradient in gradients], norm


def first_clipped_step(norms, warmup, limit, rule, first=None, above=lambda norm, limit: norm > limit):
    start = (first or {"always": 0, "from the peak": warmup, "after the peak": warmup + 1})[rule]
    return next((step for step, norm in enumerate(norms) if step >= start and above(norm, limit)), None)


def devices_needed(n, device_gb, reserved_gb, bytes_each=16, round_up=math.ceil):
    free = device_gb - reserved_gb
    if free <= 0:
        raise ValueError(f"{reserved_gb} of {device_gb} GB reserved")
    number = max(1, round_up(bytes_each * n / (free * 10**9)))
    return (1, "one") if number == 1 else (number, "FSDP")


CASES = {
    "D.1": (
        (lr_wsd,),
        {
            "decay from the warmup on": (lambda *a: lr_wsd(*a, start=a[2], steps=a[1] - a[2]),),
            "decay begins one step late": (lambda *a: lr_wsd(*a, start=a[1] - a[3] + 1),),
            "reaches the minimum at the last step": (lambda *a: lr_wsd(*a, steps=a[3] - 1),),
            "falls to 0": (lambda *a: lr_wsd(*a[:6], 0.0),),
            "begins at 0": (lambda *a: lr_wsd(*a[:4], 0.0, *a[5:]),),
            "no decay, no end": (lambda *a: a[5] if not a[3] and a[0] >= a[2] else lr_wsd(*a),),
            "no warmup": (lambda *a: lr_wsd(a[0], a[1], 0, *a[3:]),),
            "falls on beyond the end": (lambda *a: lr_wsd(*a) if a[0] < a[1] else a[5] - (a[5] - a[6]) * 2,),
        },
    ),
    "D.2": (
        (clip_by_norm,),
        {
            "each tensor by itself": (one_by_one,),
            "each number by itself": (by_value,),
            "small gradients enlarged": (lambda g, m: clip_by_norm(g, m, limit=False),),
            "in place": (in_place,),
            "sum of the norms": (lambda g, m: clip_by_norm(g, m, lambda g: sum(x.norm().item() for x in g)),),
            "square root forgotten": (
                lambda g, m: clip_by_norm(g, m, lambda g: sum(x.square().sum().item() for x in g)),
            ),
            "NaN let through": (no_check,),
            "norm after clipping": (lambda g, m: (c := clip_by_norm(g, m)[0], torch.cat(c).norm().item()),),
        },
    ),
    "D.3": (
        (first_clipped_step,),
        {
            "rule ignored": (lambda n, w, m, rule: first_clipped_step(n, w, m, "always"),),
            "last instead of first": (
                lambda n, w, m, rule: next((s for s in range(len(n) - 1, -1, -1) if n[s] > m), None),
            ),
            "equal counts": (lambda *a: first_clipped_step(*a, above=lambda norm, limit: norm >= limit),),
            "from and after the same": (
                lambda n, w, m, rule: first_clipped_step(n, w, m, rule.replace("after", "from")),
            ),
            "counted from 1": (lambda *a: None if (step := first_clipped_step(*a)) is None else step + 1,),
            "-1 instead of None": (lambda *a: -1 if (step := first_clipped_step(*a)) is None else step,),
        },
    ),
    "D.4": (
        (devices_needed,),
        {
            "weights only": (lambda *a: devices_needed(*a, bytes_each=4),),
            "rounded down": (lambda *a: devices_needed(*a, round_up=int),),
            "reserve forgotten": (lambda n, gb, reserved: devices_needed(n, gb, 0),),
            "always FSDP": (lambda *a: (devices_needed(*a)[0], "FSDP"),),
            "doubled until it fits": (lambda *a: devices_needed(*a, round_up=lambda x: 1 << max(0, math.ceil(
                math.log2(x)))),),
            "one too many": (lambda *a: devices_needed(*a, round_up=lambda x: int(x) + 1),),
            "reserve once for all": (
                lambda n, gb, r: (1, "one") if 16 * n <= (gb - r) * 10**9 else (-int(-(16e-9 * n + r) // gb), "FSDP"),
            ),
        },
    ),
    "D.5": (
        (tokens_per_second,),
        {
            "steps and not tokens": (lambda w, b, n, o, m: tokens_per_second(w, b, n, o, m) / n,),
            "times added": (lambda w, b, n, o, m: n / (2 * w * n / o + b * w / m),),
            "one operation a weight": (lambda w, b, n, o, m: n / max(w * n / o, b * w / m),),
            "weights read for each text": (lambda w, b, n, o, m: n / max(2 * w * n / o, b * w * n / m),),
            "always four bytes": (lambda w, b, n, o, m: tokens_per_second(w, 4, n, o, m),),
            "reading only": (lambda w, b, n, o, m: n / (b * w / m),),
            "computing only": (lambda w, b, n, o, m: o / (2 * w),),
            "the smaller time": (lambda w, b, n, o, m: n / min(2 * w * n / o, b * w / m),),
        },
    ),
}
