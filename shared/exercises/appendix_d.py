"""Checks of the exercises of appendix D."""

import math

import torch

from shared.exercises import claim, close, exercise, must_raise, same


@exercise("D.1")
def warmup_stable_decay(lr_wsd):
    by_hand = [lr_wsd(step, 10, 2, 4, 0.0, 1.0, 0.2) for step in range(10)]
    want = [0, 0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4]
    right = all(math.isclose(got, each, abs_tol=1e-9) for got, each in zip(by_hand, want))
    claim(right, "the example worked by hand comes out")
    claim(math.isclose(lr_wsd(0, 10, 2, 4, 0.1, 1.0, 0.2), 0.1), "the first step has initial_lr")
    halfway = lr_wsd(1, 4, 2, 1, 0.5, 3.0, 1.0)
    claim(math.isclose(halfway, 1.75), f"halfway up from 0.5 to 3 the rate is 1.75; yours is {halfway}")
    claim(lr_wsd(0, 10, 0, 4, 0.1, 1.0, 0.2) == 1.0, "without a warmup the first step has the peak")
    claim(lr_wsd(9, 10, 2, 0, 0.1, 1.0, 0.2) == 1.0, "without a decay the last step has the peak")
    at_the_end = [lr_wsd(step, 10, 2, 0, 0.1, 1.0, 0.2) for step in (10, 11)]
    words = "without a decay, too, steps from total_steps on have the minimum"
    claim(all(math.isclose(rate, 0.2) for rate in at_the_end), words)
    claim(lr_wsd(3, 4, 3, 1, 0.0, 1.0, 0.5) == 1.0, "a decay may follow the warmup at once, and begins with the peak")
    beyond = [lr_wsd(step, 10, 2, 4, 0.0, 1.0, 0.2) for step in (10, 11, 50)]
    claim(all(math.isclose(rate, 0.2) for rate in beyond), "from total_steps on the minimum is kept")
    claim(math.isclose(lr_wsd(75, 100, 10, 50, 0.0, 3.0, 1.0), 2.0), "halfway through the decay it is halfway down")


@exercise("D.2")
def clipping_by_hand(clip_by_norm):
    given = [torch.tensor([3.0]), torch.tensor([4.0])]
    clipped, norm = clip_by_norm(given, 2.0)
    claim(isinstance(norm, float), "the norm is a float")
    claim(math.isclose(norm, 5.0, rel_tol=1e-5), "the norm before is the norm of all tensors together")
    close(torch.cat(list(clipped)), torch.tensor([1.2, 1.6]), "the example worked by hand comes out", 1e-4)
    close(torch.cat(given), torch.tensor([3.0, 4.0]), "the tensors that were given are left alone")
    clipped, norm = clip_by_norm([torch.tensor([[0.3, 0.0], [0.0, 0.4]])], 1.0)
    close(clipped[0], torch.tensor([[0.3, 0.0], [0.0, 0.4]]), "below the limit nothing changes")
    claim(math.isclose(norm, 0.5, rel_tol=1e-5), "shapes do not matter for the norm")
    few = [torch.tensor([0.1])]
    kept = clip_by_norm(few, 1.0)[0][0]
    zeros = [torch.zeros(2)]
    kept_zeros = clip_by_norm(zeros, 1.0)[0][0]
    few[0] += 1.0
    zeros[0] += 1.0
    close(kept, torch.tensor([0.1]), "copies are returned, also where nothing changes: they share no memory")
    close(kept_zeros, torch.zeros(2), "copies are returned, also of a gradient of zeros")
    mixed = [torch.full((2, 3), 2.0), torch.ones(1)]
    claim(math.isclose(clip_by_norm(mixed, 9.0)[1], 5.0, rel_tol=1e-5), "tensors of different shapes have one norm")
    clipped, norm = clip_by_norm([torch.tensor([-6.0]), torch.tensor([8.0, 0.0])], 1.0)
    close(torch.cat(list(clipped)), torch.tensor([-0.6, 0.8, 0.0]), "the direction is kept, signs included", 1e-4)
    claim(math.isclose(norm, 10.0, rel_tol=1e-5), "signs do not matter for the norm")
    clipped, norm = clip_by_norm([torch.zeros(3)], 1.0)
    claim(norm == 0.0 and not clipped[0].any(), "a gradient of zeros stays one")
    must_raise(ValueError, "a NaN raises ValueError", clip_by_norm, [torch.tensor([1.0, math.nan])], 1.0)
    must_raise(ValueError, "an infinite gradient raises ValueError", clip_by_norm, [torch.tensor([math.inf])], 1.0)


@exercise("D.3")
def first_step_that_is_clipped(first_clipped_step):
    by_hand = [first_clipped_step([3.0, 0.5, 2.0, 4.0], 2, 1.0, rule)
               for rule in ("always", "from the peak", "after the peak")]  # fmt: skip
    claim(by_hand == [0, 2, 3], "the example worked by hand comes out")
    claim(first_clipped_step([0.1, 0.2], 0, 1.0, "always") is None, "None if no norm is above the limit")
    claim(first_clipped_step([5.0, 0.2, 0.3], 1, 1.0, "from the peak") is None, "steps before the peak do not count")
    claim(first_clipped_step([1.0, 1.5], 0, 1.0, "always") == 1, "a norm equal to the limit is not changed")
    claim(first_clipped_step([2.0, 3.5], 0, 3.0, "always") == 1, "the limit is max_norm, not always 1")
    claim(first_clipped_step([1.5, 1.5], 0, 1.0, "after the peak") == 1, "without a warmup the peak is step 0")


@exercise("D.4")
def devices_for_a_model(devices_needed):
    same(devices_needed(7 * 10**9, 80, 20), (2, "FSDP"), "the example worked by hand comes out")
    claim(isinstance(devices_needed(7 * 10**9, 80, 20)[0], int), "the number of devices is an int")
    claim(devices_needed(124_439_808, 16, 6) == (1, "one"), "a small model needs one device")
    claim(devices_needed(10**9, 20, 4) == (1, "one"), "16 GB fit exactly into 16")
    claim(devices_needed(10**9 + 10**6, 20, 4) == (2, "FSDP"), "a little more needs a second one")
    claim(devices_needed(10 * 10**9, 80, 20) == (3, "FSDP"), "160 GB need three devices with 60 GB free, not four")
    claim(devices_needed(70 * 10**9, 80, 10) == (16, "FSDP"), "16 times 70 GB hold the 1,120 GB of 70 billion")
    must_raise(ValueError, "nothing left after the reserve raises ValueError", devices_needed, 10**9, 16, 16)
    must_raise(ValueError, "a reserve above the memory raises ValueError", devices_needed, 10**9, 16, 24)


@exercise("D.5")
def speed_under_the_roof(tokens_per_second):
    def gives(want, words, n_weights, bytes_per_weight, n_texts, operations=2e11, bandwidth=4e10):
        got = tokens_per_second(n_weights, bytes_per_weight, n_texts, operations, bandwidth)
        right = isinstance(got, (int, float)) and math.isclose(got, want, rel_tol=1e-6)
        claim(right, f"{words}; yours gave {got!r}")

    gives(100, "the example worked by hand comes out for one text, 100", 1e8, 4, 1)
    gives(1_000, "the example worked by hand comes out for twenty texts, 1,000", 1e8, 4, 20)
    gives(400, "weights of one byte are read in a quarter of the time, which makes 400", 1e8, 1, 1)
    gives(1_000, "with weights of one byte computing sets the pace for four texts, 1,000", 1e8, 1, 4)
    gives(1_000, "where both times are equal they are not added, 1,000", 1e8, 4, 10)
    gives(1_000, "forty texts bring no more tokens a second than twenty, 1,000", 1e8, 4, 40)
    gives(3e11 / 2.4e8, "another machine, weights of two bytes and three texts, 1,250", 1.2e8, 2, 3, 1e12, 1e11)
