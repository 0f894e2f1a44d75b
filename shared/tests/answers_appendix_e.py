"""Right and wrong answers to the exercises of appendix E, for test_exercises.py."""

import torch


def break_even_rank(n, m):
    if n < 1 or m < 1:
        raise ValueError(f"sizes must be at least 1; they are {n} and {m}")
    return (n * m - 1) // (n + m)


def unchecked(n, m):
    return (n * m - 1) // (n + m) if n + m else 0


def best_factors(matrix, rank, first=True, clamp=True, check=True, root=False):
    if check and rank < 1:
        raise ValueError(f"rank {rank}")
    U, S, V = torch.linalg.svd(matrix, full_matrices=False)
    rank = min(rank, len(S)) if clamp else rank
    keep = slice(0, rank) if first else slice(len(S) - rank, None)
    return U[:, keep] * (S[keep].sqrt() if root else S[keep]), V[keep]


def scaled_twice(matrix, rank):
    A, B = best_factors(matrix, rank)
    return A, B * torch.linalg.svdvals(matrix)[: len(B), None]


def padded(matrix, rank):
    A, B = best_factors(matrix, rank)
    return torch.nn.functional.pad(A, (0, rank - A.shape[1])), torch.nn.functional.pad(B, (0, 0, 0, rank - B.shape[0]))


def rows_of_the_matrix(matrix, rank):
    """Takes the first rows and columns instead of the best."""
    best_factors(matrix, rank)
    r = min(rank, *matrix.shape)
    return matrix[:, :r] @ torch.linalg.pinv(matrix[:r, :r]), matrix[:r]


def merged_weight(weight, A, B, alpha, sign=1, scale=lambda alpha, r: alpha / r, turn=lambda p: p.T):
    return weight + sign * scale(alpha, A.shape[1]) * turn(A @ B)


def in_place(weight, A, B, alpha, sign=1):
    with torch.no_grad():
        return weight.add_(merged_weight(torch.zeros_like(weight), A, B, alpha, sign))


def combine_adapters(adapters, shares, count=True, sizes=True, empty=True):
    if empty and not adapters:
        raise ValueError("no adapters")
    if count and len(adapters) != len(shares):
        raise ValueError(f"{len(adapters)} adapters, {len(shares)} shares")
    shapes = {(a.shape[0], b.shape[1]) for a, b in adapters}
    if sizes and len(shapes) > 1:
        raise ValueError(f"sizes {shapes}")
    return (torch.cat([a for a, _ in adapters], dim=1), torch.cat([s * b for s, (_, b) in zip(shares, adapters)]))


def both_shares(adapters, shares):
    A, B = combine_adapters(adapters, shares)
    return torch.cat([s * a for s, (a, _) in zip(shares, adapters)], dim=1), B


def dense(adapters, shares):
    A, B = combine_adapters(adapters, shares)
    return A @ B, torch.eye(B.shape[1])


def adds_the_factors(adapters, shares):
    combine_adapters(adapters, shares)
    if len({a.shape for a, _ in adapters}) > 1:
        raise ValueError("ranks differ")
    return sum(a for a, _ in adapters), sum(s * b for s, (_, b) in zip(shares, adapters))


def square_roots(adapters, shares):
    A, B = combine_adapters(adapters, [1] * len(shares) if len(shares) == len(adapters) else shares)
    roots = [abs(s) ** 0.5 for s, (a, _) in zip(shares, adapters) for _ in range(a.shape[1])]
    return A * torch.tensor(roots), B * torch.tensor(roots)[:, None]


CASES = {
    "E.1": (
        (break_even_rank,),
        {
            "as many is enough": (lambda n, m: break_even_rank(n, m) if n * m % (n + m) else n * m // (n + m),),
            "half the smaller size": (lambda n, m: min(n, m) // 2 + 0 * break_even_rank(n, m),),
            "rounded": (lambda n, m: round(n * m / (n + m)) + 0 * break_even_rank(n, m),),
            "floating point": (lambda n, m: int(n * m / (n + m) - 1e-9) + 0 * break_even_rank(n, m),),
            "first that does not pay": (lambda n, m: break_even_rank(n, m) + 1,),
            "not checked": (unchecked,),
            "at least 1": (lambda n, m: max(1, break_even_rank(n, m)),),
            "a float": (lambda n, m: break_even_rank(n, m) + 0.5,),
        },
    ),
    "E.2": (
        (best_factors,),
        {
            "smallest pieces": (lambda m, r: best_factors(m, r, first=False),),
            "singular values left out": (lambda m, r: (torch.linalg.svd(m)[0][:, :r], best_factors(m, r)[1]),),
            "singular values twice": (scaled_twice,),
            "root on one side only": (lambda m, r: best_factors(m, r, root=True),),
            "rank 0 accepted": (lambda m, r: best_factors(m, r, check=False),),
            "filled up to the rank": (padded,),
            "first rows and columns": (rows_of_the_matrix,),
            "turned round": (lambda m, r: tuple(x.T for x in best_factors(m, r)),),
        },
    ),
    "E.3": (
        (merged_weight,),
        {
            "not turned": (lambda *a, **k: merged_weight(*a, **k, turn=lambda p: p.reshape(p.T.shape)),),
            "alpha alone": (lambda *a, **k: merged_weight(*a, **k, scale=lambda alpha, r: alpha),),
            "no scale": (lambda *a, **k: merged_weight(*a, **k, scale=lambda alpha, r: 1),),
            "root of the rank": (lambda *a, **k: merged_weight(*a, **k, scale=lambda alpha, r: alpha / r**0.5),),
            "in place": (in_place,),
            "sign ignored": (lambda w, A, B, alpha, sign=1: merged_weight(w, A, B, alpha),),
            "the adapter alone": (lambda w, *a: merged_weight(torch.zeros_like(w), *a),),
        },
    ),
    "E.4": (
        (combine_adapters,),
        {
            "shares on both": (both_shares,),
            "shares ignored": (lambda a, s: combine_adapters(a, [1] * len(s)),),
            "multiplied out": (dense,),
            "factors added": (adds_the_factors,),
            "roots of the shares": (square_roots,),
            "number of shares not checked": (lambda a, s: combine_adapters(a, s, count=False),),
            "sizes not checked": (lambda a, s: combine_adapters(a, s, sizes=False),),
            "shares divided by their sum": (lambda a, s: combine_adapters(a, [x / (sum(s) or 1) for x in s]),),
        },
    ),
}
