"""Right and wrong answers to the exercises of the PyTorch refresher, for test_exercises.py."""

import torch


def center_columns(x, dim=0, guard=True, scale="range"):
    spread = x.amax(dim=dim, keepdim=True) - x.amin(dim=dim, keepdim=True)
    if scale == "std":
        spread = x.std(dim=dim, keepdim=True)
    if guard:
        spread = torch.where(spread == 0, 1.0, spread)
    return (x - x.mean(dim=dim, keepdim=True)) / spread


def centered_in_place(x):
    return x.copy_(center_columns(x))


def one_range_for_all(x):
    centered = x - x.mean(dim=0)
    return centered / max(1e-9, (x.max() - x.min()).item())


def smallest_taken(x):
    spread = x.amax(dim=0) - x.amin(dim=0)
    return (x - x.amin(dim=0)) / torch.where(spread == 0, 1.0, spread)


def slope(function, x):
    copy = x.detach().clone().requires_grad_(True)
    return torch.autograd.grad(function(copy), copy)[0]


def on_x_itself(function, x):
    x.requires_grad_(True)
    function(x).backward()
    return x.grad


def by_backward(function, x):
    copy = x.detach().clone().requires_grad_(True)
    function(copy).backward()
    return copy.grad


def by_difference(function, x):
    with torch.no_grad():
        return (function(x + 1e-3) - function(x)) / 1e-3 * torch.ones_like(x)


def flat(function, x):
    return slope(function, x).flatten()


def sgd_step(parameters, lr, sign=-1, clear=True):
    with torch.no_grad():
        for parameter in parameters:
            if parameter.grad is not None:
                parameter += sign * lr * parameter.grad
                parameter.grad = None if clear else parameter.grad


def zeros_left(parameters, lr):
    with torch.no_grad():
        for parameter in parameters:
            if parameter.grad is not None:
                parameter -= lr * parameter.grad
                parameter.grad.zero_()


def first_only(parameters, lr):
    sgd_step(list(parameters)[:1], lr)


def all_have_gradients(parameters, lr):
    with torch.no_grad():
        for parameter in parameters:
            parameter -= lr * parameter.grad
            parameter.grad = None


def recorded(parameters, lr):
    for parameter in parameters:
        if parameter.grad is not None:
            parameter -= lr * parameter.grad
            parameter.grad = None


def same_weights(first, second):
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def nearly(first, second):
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(
        a[name].shape == b[name].shape and torch.allclose(a[name].float(), b[name].float(), atol=1e-4) for name in a
    )


def parameters_only(first, second):
    a, b = dict(first.named_parameters()), dict(second.named_parameters())
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def names_of_the_first(first, second):
    a, b = first.state_dict(), second.state_dict()
    return all(name in b and torch.equal(a[name], b[name]) for name in a)


def without_names(first, second):
    pairs = list(zip(first.state_dict().values(), second.state_dict().values()))
    return len(first.state_dict()) == len(second.state_dict()) and all(torch.equal(a, b) for a, b in pairs)


def stretched(first, second):
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(bool((a[name] == b[name]).all()) for name in a)


CASES = {
    "A.1": (
        (center_columns,),
        {
            "rows": (lambda x: center_columns(x, dim=1),),
            "division by zero": (lambda x: center_columns(x, guard=False),),
            "standard deviation": (lambda x: center_columns(x, scale="std"),),
            "in place": (centered_in_place,),
            "one range for all": (one_range_for_all,),
            "smallest taken": (smallest_taken,),
        },
    ),
    "A.2": (
        (slope,),
        {
            "on x itself": (on_x_itself,),
            "other tensors get gradients": (by_backward,),
            "by a difference": (by_difference,),
            "flat": (flat,),
            "the value": (lambda function, x: function(x) * torch.ones_like(x),),
        },
    ),
    "A.3": (
        (sgd_step,),
        {
            "uphill": (lambda p, lr: sgd_step(p, lr, sign=1),),
            "gradients stay": (lambda p, lr: sgd_step(p, lr, clear=False),),
            "gradients of zeros": (zeros_left,),
            "first only": (first_only,),
            "all have gradients": (all_have_gradients,),
            "recorded": (recorded,),
        },
    ),
    "A.4": (
        (same_weights,),
        {
            "nearly the same": (nearly,),
            "parameters only": (parameters_only,),
            "names of the first": (names_of_the_first,),
            "without names": (without_names,),
            "stretched": (stretched,),
        },
    ),
}
