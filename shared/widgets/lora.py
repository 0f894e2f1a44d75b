"""LoRA explorer: what adapters of a rank cost beside training the whole model."""

import ipywidgets

from shared.widgets.explorer import Explorer
from shared.widgets.size import describe_size, draw_size

# What a block's layers turn into what, in units of the width.
LAYERS = {
    "queries and values": [(1, 1)] * 2,
    "all of attention": [(1, 1)] * 4,
    "all linear layers": [(1, 1)] * 4 + [(1, 4), (4, 1)],
}


def lora_costs(width, n_blocks, others, rank, alpha, where):
    """(part -> numbers, lines of text) for adapters of a rank in every block.

    Args:
        others: parameters outside the blocks' linear layers.
        where: a key of LAYERS.
    """
    block = sum(n * m * width * width for n, m in LAYERS["all linear layers"])
    adapters = n_blocks * sum(rank * (n + m) * width for n, m in LAYERS[where])
    everything = n_blocks * block + others
    # Gradient and AdamW's two averages, 4 bytes each, for what learns.
    training, full = 12 * adapters / 1e6, 12 * everything / 1e6
    lines = [
        f"scale alpha / rank = {alpha / rank:g}; {adapters:,} numbers learn, "
        f"{adapters / (adapters + everything):.2%} of all",
        f"file of the adapters {4 * adapters / 1e6:,.1f} MB, of the model {4 * everything / 1e6:,.1f} MB",
        f"gradients and optimizer {training:,.1f} MB, for everything {full:,.1f} MB",
    ]
    return {"adapters": adapters, "frozen": everything}, lines


def lora_explorer(width, n_blocks, others):
    """Sliders for rank and alpha, a choice of layers, and what follows; see ``lora_costs`` for the arguments."""
    controls = {
        "rank": ipywidgets.SelectionSlider(options=[1, 2, 4, 8, 16, 32, 64, 128, 256, 384, 512], value=16,
                                           description="rank"),
        "alpha": ipywidgets.SelectionSlider(options=[1, 2, 4, 8, 16, 32, 64], value=16, description="alpha"),
        "where": ipywidgets.Dropdown(options=list(LAYERS), value="all linear layers", description="in"),
    }  # fmt: skip

    def costs(rank, alpha, where):
        return lora_costs(width, n_blocks, others, rank, alpha, where)

    return Explorer(
        controls,
        draw=lambda **values: draw_size(*costs(**values)),
        describe=lambda **values: describe_size(*costs(**values)),
    )
