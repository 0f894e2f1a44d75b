"""Checks of the exercises of the PyTorch refresher in chapter 2."""

import torch
from torch import nn

from shared.exercises import claim, close, exercise, same


@exercise("A.1")
def columns_around_zero(center_columns):
    column = torch.tensor([[1.0], [2.0], [6.0]])
    close(center_columns(column), torch.tensor([[-0.4], [-0.2], [0.6]]), "the column worked by hand comes out")
    close(column, torch.tensor([[1.0], [2.0], [6.0]]), "the tensor that was given is left alone")
    torch.manual_seed(0)
    x = 5 + 3 * torch.randn(7, 4)
    got = center_columns(x)
    close(got.mean(dim=0), torch.zeros(4), "the mean of each column is 0")
    close(got.amax(dim=0) - got.amin(dim=0), torch.ones(4), "the range of each column is 1")
    close(center_columns(x[:, 2:3]), got[:, 2:3], "each column is treated by itself")
    square = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    close(center_columns(square), torch.tensor([[-0.5, -0.5], [0.5, 0.5]]), "columns, not rows, also of a square")
    constant = torch.tensor([[4.0, 1.0], [4.0, 3.0]])
    close(center_columns(constant), torch.tensor([[0.0, -0.5], [0.0, 0.5]]), "a column of equal numbers becomes 0")
    close(center_columns(torch.tensor([[3.0, 7.0]])), torch.zeros(1, 2), "a single row becomes 0")
    words = "a column of equal numbers becomes exactly 0, also where its mean is not exact, as of seven times 0.1"
    claim(not center_columns(torch.full((7, 1), 0.1)).abs().gt(1e-6).any(), words)
    close(center_columns(1e-6 * column), center_columns(column), "a small range is a range like others", 1e-4)


@exercise("A.2")
def slopes(slope):
    got = slope(lambda x: (x**2).sum(), torch.tensor([1.0, -3.0]))
    close(got, torch.tensor([2.0, -6.0]), "the slopes worked by hand come out")
    x = torch.tensor([[0.5, 2.0], [1.0, -1.0]])
    close(slope(lambda x: x.prod(), x), torch.tensor([[-2.0, -0.5], [-1.0, 1.0]]), "the shape of x is kept")
    claim(x.grad is None and not x.requires_grad, "x itself gets no gradient and is not watched afterwards")
    watched = torch.tensor([2.0], requires_grad=True)
    (watched * 3).sum().backward()
    got = slope(lambda x: (x**3).sum(), watched)
    close(got.detach(), torch.tensor([12.0]), "a tensor that is watched can be given")
    close(watched.grad, torch.tensor([3.0]), "a gradient that is there already stays")
    claim(watched.requires_grad and watched.is_leaf, "a tensor that was watched still is")
    weight = torch.tensor([5.0], requires_grad=True)
    got = slope(lambda x: (weight * x).sum(), torch.tensor([1.0]))
    close(got.detach(), torch.tensor([5.0]), "other tensors may be watched")
    claim(weight.grad is None, "other tensors get no gradient")
    for _ in range(2):
        close(slope(lambda x: x.sum(), torch.ones(2)), torch.ones(2), "called again, it gives the same")


@exercise("A.3")
def a_step(sgd_step):
    w = nn.Parameter(torch.tensor(3.0))
    ((w * 2 - 10) ** 2).backward()
    sgd_step([w], 0.1)
    close(w.detach(), torch.tensor(4.6), "the step worked by hand comes out")
    claim(w.grad is None, "the gradient is None afterwards")
    claim(w.requires_grad and w.is_leaf, "the parameter can still be trained")
    torch.manual_seed(0)
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    kept = ours.weight
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.3)
    for _ in range(3):
        x = torch.randn(5, 3)
        for model in (ours, theirs):
            model(x).pow(2).mean().backward()
        sgd_step(ours.parameters(), 0.3)
        optimizer.step()
        optimizer.zero_grad()
        close(ours.weight.detach(), theirs.weight.detach(), "three steps give the weights that torch.optim.SGD gives")
    claim(ours.weight is kept, "parameters are changed in place, not replaced")
    p = nn.Parameter(torch.tensor([1.0, 2.0]))
    view = p.detach()  # looks at the same memory
    p.square().sum().backward()
    sgd_step([p], 0.25)
    close(view, torch.tensor([0.5, 1.0]), "the numbers themselves are changed, in their place in memory")
    unused, used = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    used.sum().backward()
    sgd_step([unused, used], 1.0)
    close(unused.detach(), torch.ones(2), "a parameter that could be trained but has no gradient stays as it is")
    close(ours.bias.detach(), theirs.bias.detach(), "all parameters take the step")
    frozen, learning = nn.Parameter(torch.ones(2), requires_grad=False), nn.Parameter(torch.ones(2))
    (frozen * learning).sum().backward()
    sgd_step([frozen, learning], 1.0)
    close(frozen.detach(), torch.ones(2), "a parameter without gradient stays as it is")
    close(learning.detach(), torch.zeros(2), "and the others go on")


@exercise("A.4")
def compared(same_weights):
    def make(seed, width=3):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))

    same(same_weights(make(0), make(0)), True, "two modules with the same numbers are the same")
    same(same_weights(make(0), make(1)), False, "other numbers are other weights")
    same(same_weights(make(0), make(0, 4)), False, "other shapes are no error, and not the same")
    close_one = make(0)
    with torch.no_grad():
        close_one[0].bias[0] += 1e-6
    same(same_weights(make(0), close_one), False, "nearly the same is not the same")
    plain, wrapped = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))
    wrapped[0].load_state_dict(plain.state_dict())
    same(same_weights(plain, wrapped), False, "other names are not the same, even with the same numbers")
    more = nn.Sequential(*make(0), nn.Linear(3, 1))
    same(same_weights(make(0), more), False, "a module with more tensors is another one")
    same(same_weights(more, make(0)), False, "also the other way round")
    counted = make(0)
    counted[1].running_mean += 1
    same(same_weights(make(0), counted), False, "buffers belong to the state dict, too")
    same(same_weights(nn.GELU(), nn.ReLU()), True, "modules without tensors have the same, none")
    first = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    second = nn.ModuleDict({"b": nn.Linear(2, 2), "a": nn.Linear(2, 2)})
    second.load_state_dict(first.state_dict())
    same(same_weights(first, second), True, "the order in which the names come does not matter")
    swapped = make(0)
    with torch.no_grad():
        swapped[0].weight.copy_(swapped[0].weight.flip(0).clone())
    same(same_weights(make(0), swapped), False, "the same numbers in other places are not the same")
    column = nn.Linear(1, 1, bias=False)
    wide = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        column.weight.fill_(1.0)
        wide.weight.fill_(1.0)
    same(same_weights(column, wide), False, "a tensor that would be stretched to fit is not the same")
