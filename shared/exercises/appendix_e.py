"""Checks of the exercises of appendix E."""

import torch

from shared.exercises import claim, close, exercise, must_raise, same


@exercise("E.1")
def where_an_adapter_stops_paying(break_even_rank):
    same(break_even_rank(4, 4), 1, "for 4 x 4 it is 1: rank 2 has as many numbers, not fewer")
    same(break_even_rank(768, 2), 1, "for the head, 768 x 2, it is 1")
    same(break_even_rank(768, 768), 383, "for 768 x 768, rank 384 has exactly as many numbers")
    same(break_even_rank(768, 3072), 614, "for 768 x 3,072 it is less than 614.4")
    same(break_even_rank(3072, 768), 614, "the order of the sizes does not matter")
    same(break_even_rank(5, 1), 0, "for 5 x 1 even rank 1 has more numbers, so it is 0")
    same(break_even_rank(2, 2), 0, "for 2 x 2, rank 1 has exactly as many numbers, so it is 0")
    big = 10**9
    same(break_even_rank(2 * big, 2 * big), big - 1, "large sizes come out exactly")
    must_raise(ValueError, "a size of 0 raises ValueError", break_even_rank, 0, 4)
    must_raise(ValueError, "a negative size raises ValueError", break_even_rank, 4, -1)


@exercise("E.2")
def nearest_of_a_rank(best_factors):
    by_hand = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    before = by_hand.clone()
    A, B = best_factors(by_hand, 1)
    same((tuple(A.shape), tuple(B.shape)), ((2, 1), (1, 2)), "of a 2 x 2 matrix at rank 1, A is 2 x 1 and B is 1 x 2")
    close(A @ B, torch.tensor([[3.0, 0.0], [0.0, 0.0]]), "the example worked by hand comes out", 1e-4)
    close(by_hand, before, "the matrix that was given is left alone")
    torch.manual_seed(0)
    matrix = torch.randn(5, 3) @ torch.randn(3, 7)
    values = torch.linalg.svdvals(matrix)
    for rank in (1, 2):
        A, B = best_factors(matrix, rank)
        same((tuple(A.shape), tuple(B.shape)), ((5, rank), (rank, 7)), "the factors have the rank that was asked for")
        error, least = (matrix - A @ B).square().sum(), values[rank:].square().sum()
        claim(abs(error - least) < 1e-3 * least + 1e-4, f"no pair of rank {rank} is nearer to the matrix than yours")
    A, B = best_factors(matrix, 3)
    close(A @ B, matrix, "a matrix of rank 3 comes out exactly at rank 3", 1e-4)
    A, B = best_factors(matrix, 9)
    same((tuple(A.shape), tuple(B.shape)), ((5, 5), (5, 7)), "a rank above both sizes is taken as the smaller of them")
    close(A @ B, matrix, "with the highest rank nothing is lost", 1e-4)
    must_raise(ValueError, "rank 0 raises ValueError", best_factors, matrix, 0)


@exercise("E.3")
def adapter_in_the_weight(merged_weight):
    weight, A, B = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0]])
    before = weight.clone()
    merged = merged_weight(weight, A, B, 3)
    close(merged, torch.tensor([[7.0, 20.0]]), "the example worked by hand comes out")
    close(weight, before, "the weight that was given is left alone")
    close(merged_weight(merged, A, B, 3, -1), weight, "with sign=-1 the adapter is taken out again")
    torch.manual_seed(0)
    linear = torch.nn.Linear(5, 5)
    A, B, x = torch.randn(5, 4), torch.randn(4, 5), torch.randn(3, 5)
    want = linear(x) + 8 / 4 * (x @ A @ B)
    got = torch.nn.functional.linear(x, merged_weight(linear.weight, A, B, 8), linear.bias)
    close(got, want, "for a square matrix too, the layer gives x W + (alpha / rank) x A B", 1e-4)


@exercise("E.4")
def a_mixture_of_adapters(combine_adapters):
    one = torch.tensor([[1.0], [0.0]]), torch.tensor([[2.0, 3.0]])
    two = torch.tensor([[0.0], [1.0]]), torch.tensor([[4.0, 4.0]])
    A, B = combine_adapters([one, two], [1, 0.5])
    close(A @ B, torch.tensor([[2.0, 3.0], [2.0, 2.0]]), "the example worked by hand comes out")
    same((tuple(A.shape), tuple(B.shape)), ((2, 2), (2, 2)), "the rank of the mixture is the sum of the ranks")
    close(one[1], torch.tensor([[2.0, 3.0]]), "the adapters that were given are left alone")
    torch.manual_seed(0)
    adapters = [(torch.randn(6, r), torch.randn(r, 3)) for r in (1, 2, 4)]
    shares = [0.5, -1.0, 2.0]
    A, B = combine_adapters(adapters, shares)
    same(A.shape[1], 7, "ranks may differ")
    want = sum(share * a @ b for share, (a, b) in zip(shares, adapters))
    close(A @ B, want, "the product is the sum of share * A B, with negative shares too", 1e-4)
    A, B = combine_adapters([adapters[1]], [1])
    close(A @ B, adapters[1][0] @ adapters[1][1], "one adapter with share 1 computes what it did", 1e-4)
    must_raise(ValueError, "no adapters raise ValueError", combine_adapters, [], [])
    must_raise(ValueError, "more shares than adapters raise ValueError", combine_adapters, [one], [1, 2])
    must_raise(ValueError, "fewer shares than adapters raise ValueError", combine_adapters, [one, two], [1])
    must_raise(ValueError, "adapters for other sizes raise ValueError", combine_adapters, [one, adapters[0]], [1, 1])
