"""Making a model whose weights will be replaced at once, without drawing random numbers for them first."""

from contextlib import contextmanager

from torch.overrides import TorchFunctionMode


class _Skip(TorchFunctionMode):
    """Leaves out what nn.Linear and nn.Embedding draw for a start."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(function, "__module__", None) == "torch.nn.init":
            return kwargs.get("tensor", args[0] if args else None)
        return function(*args, **kwargs)


@contextmanager
def without_initialisation():
    """A block in which new layers keep whatever numbers their memory holds.

    Memory that nobody writes to is not taken yet, so a large model costs nothing until its weights arrive. Draws no
    random numbers: what is drawn afterwards differs from a run with initialisation.
    """
    with _Skip():
        yield
