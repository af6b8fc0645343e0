"""limitlib.operators.conv_norm against torch's own convolution written out as a matrix; the usual wrong numbers must fail."""

import math

import numpy as np
import pytest
import torch

from limitlib.operators import conv_norm, convolutions


def module(W, sizes, *, stride=1, padding=0, padding_mode="zeros", dilation=1, groups=1):
    kind = [torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d][len(sizes) - 1]
    made = kind(W.shape[1] * groups, W.shape[0], W.shape[2:], stride=stride, padding=padding, dilation=dilation, groups=groups,
                bias=False, padding_mode=padding_mode, dtype=torch.float64)  # fmt: skip
    made.weight.data = torch.tensor(W)
    return made.requires_grad_(False)


def truth_of(W, sizes, **how):
    """Largest singular value of the matrix whose columns are the images of the unit vectors under torch's convolution."""
    conv = module(W, sizes, **how)
    inputs = W.shape[1] * how.get("groups", 1)
    columns = conv(torch.eye(inputs * math.prod(sizes), dtype=torch.float64).reshape(-1, inputs, *sizes))
    return np.linalg.svd(columns.flatten(1).numpy(), compute_uv=False)[0]


def attained(W, sizes, x, **how):
    return module(W, sizes, **how)(torch.tensor(x)[None]).norm().item() / np.linalg.norm(x)


def never_materialise(monkeypatch):
    monkeypatch.setattr(convolutions, "MATERIALISE", (0, 0))
    monkeypatch.setattr(convolutions, "MATERIALISE_IF_WIDE", (0, 0))


def random_case(rng):
    dims = int(rng.choice([1, 1, 2, 2, 2, 3]))
    groups = int(rng.choice([1, 1, 2, 3]))
    kernel, dilation, stride, sizes = (
        tuple(int(v) for v in rng.integers(1, most, size=dims))
        for most in ([8, 5, 4][dims - 1], 4, 4, [30, 9, 5][dims - 1])
    )
    mode = str(rng.choice(["zeros", "circular"]))
    if rng.random() < 0.2:
        padding, stride = "same", (1,) * dims
    elif mode == "zeros":
        padding = tuple(int(v) for v in rng.integers(0, [10, 10, 4][dims - 1], size=dims))
    else:
        padding = tuple(int(rng.integers(0, n + 1)) for n in sizes)
    W = rng.standard_normal((int(rng.integers(1, 4)) * groups, int(rng.integers(1, 4)), *kernel))
    if rng.random() < 0.3:
        W = np.abs(W)
    return W, sizes, dict(stride=stride, padding=padding, padding_mode=mode, dilation=dilation, groups=groups)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("seed", range(4))
def test_hundreds_of_small_convolutions_written_out_and_on_the_torus(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    done = 0
    while done < 60:
        W, sizes, how = random_case(rng)
        try:
            b = conv_norm(W, sizes, **how)
        except ValueError as refused:
            assert "smaller than the kernel" in str(refused) or "wraps around" in str(refused)  # as torch refuses them
            continue
        done += 1
        with monkeypatch.context() as patched:
            never_materialise(patched)
            torus = conv_norm(W, sizes, **how)
        truth = truth_of(W, sizes, **how)
        assert b.upper <= truth * (1 + 1e-6), (W.shape, sizes, how)
        for found in (b, torus):
            assert found.lower <= truth * (1 + 1e-13) and found.upper >= truth * (1 - 1e-13), (W.shape, sizes, how)
            x = found.witness
            assert np.linalg.norm(x) == pytest.approx(1, abs=1e-12)
            assert found.lower <= attained(W, sizes, x, **how) * (1 + 1e-13)
            assert found.lower >= attained(W, sizes, x, **how) * (1 - 1e-9)


LARGE = {
    "3x3": ((4, 4, 3, 3), (12, 12), dict(padding=1)),
    "stride 2": ((4, 4, 3, 3), (16, 16), dict(padding=1, stride=2)),
    "dilation 2": ((3, 3, 3, 3), (14, 14), dict(padding=2, dilation=2)),
    "groups": ((6, 2, 3, 3), (12, 12), dict(padding=1, groups=3)),
    "circular": ((4, 4, 3, 3), (12, 12), dict(padding=1, padding_mode="circular")),
    "circular, stride 2": ((4, 4, 3, 3), (14, 14), dict(padding=1, padding_mode="circular", stride=2)),
    "circular, stride 2, odd": ((4, 4, 3, 3), (13, 13), dict(padding=1, padding_mode="circular", stride=2)),
    "valid": ((3, 3, 5, 5), (14, 14), {}),
    "asymmetric": ((2, 2, 1, 7), (8, 30), dict(padding=(0, 3))),
    "1-D": ((4, 4, 5), (120,), dict(padding="same")),
}


@pytest.mark.parametrize("name", LARGE)
def test_larger_convolutions_end_within_one_per_cent_of_the_truth(name, monkeypatch):
    """First the torus, as for large ones; where it leaves more than one per cent, the matrix."""
    monkeypatch.setattr(convolutions, "MATERIALISE", (0, 0))
    shape, sizes, how = LARGE[name]
    W = np.random.default_rng(5).standard_normal(shape)
    b = conv_norm(W, sizes, **how)
    truth = truth_of(W, sizes, **how)
    assert b.lower <= truth * (1 + 1e-13) and truth * (1 - 1e-13) <= b.upper <= 1.01 * truth
    assert b.lower >= 0.99 * truth


def test_a_circle_that_the_stride_does_not_divide_says_that_it_is_wide(monkeypatch):
    never_materialise(monkeypatch)
    W = np.random.default_rng(5).standard_normal((4, 4, 3, 3))
    b = conv_norm(W, (13, 13), padding=1, padding_mode="circular", stride=2)
    assert b.contains(truth_of(W, (13, 13), padding=1, padding_mode="circular", stride=2)) and "does not divide" in b.source
    assert "does not divide" not in conv_norm(W, (14, 14), padding=1, padding_mode="circular", stride=2).source


def test_circular_and_torus_are_exact_where_they_are_the_same_operator(monkeypatch):
    never_materialise(monkeypatch)
    W = np.random.default_rng(6).standard_normal((5, 4, 3, 3))
    for stride, rtol in [(1, 1e-4), (2, 1e-4), (1, 1e-6)]:
        how = dict(padding=1, padding_mode="circular", stride=stride)
        b = conv_norm(W, (12, 12), rtol=rtol, **how)
        truth = truth_of(W, (12, 12), **how)
        assert truth * (1 - 1e-13) <= b.upper <= truth * (1 + rtol) and b.lower >= truth * (1 - 1e-3)


def test_a_twisted_torus_bounds_a_kernel_that_peaks_at_frequency_zero(monkeypatch):
    never_materialise(monkeypatch)
    W = np.abs(np.random.default_rng(12).standard_normal((3, 3, 3, 3)))
    truth = truth_of(W, (14, 14), padding=1)
    b = conv_norm(W, (14, 14), padding=1)
    monkeypatch.setattr(convolutions, "TWIST_IF_WIDER", math.inf)
    straight = conv_norm(W, (14, 14), padding=1)
    assert truth * (1 - 1e-13) <= b.upper < 1.005 * truth and straight.upper > 1.02 * truth and "twisted" in b.source


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("twist", [(1, 1), (0, 1), (1, 0)])
def test_every_twist_is_an_upper_bound(twist):
    rng = np.random.default_rng(13)
    done = 0
    while done < 40:
        W, sizes, how = random_case(rng)
        if len(sizes) != 2 or how["padding_mode"] == "circular":
            continue
        try:
            job = convolutions._job(W, sizes, *(how[k] for k in ("stride", "padding", "padding_mode", "dilation", "groups")))
        except ValueError:
            continue
        done += 1
        lengths, stride, _ = convolutions._torus_sizes(job)
        top = convolutions._largest_symbol(job, lengths, stride, twist, 1e-6)
        assert top.upper >= truth_of(W, sizes, **how) * (1 - 1e-13), (W.shape, sizes, how)


def test_what_the_symbol_on_the_grid_of_the_image_gets_wrong(monkeypatch):
    """An alternating kernel on an odd image: the frequency pi is missing from the grid, and with it the norm."""
    w, n = np.array([[[1.0, -2.0, 1.0]]]), 5
    short = np.abs(np.fft.fft(w[0, 0], n)).max()
    truth = truth_of(w, (n,), padding=1)  # the second difference: 4 sin^2(pi n / (2 (n + 1)))
    assert truth == pytest.approx(4 * math.sin(math.pi * n / (2 * (n + 1))) ** 2) and short < truth
    never_materialise(monkeypatch)
    assert conv_norm(w, n, padding=1).contains(truth)


def test_the_flattened_kernel_is_no_norm_of_the_convolution():
    W = np.ones((2, 2, 3, 3))
    flat = np.linalg.norm(W.reshape(2, -1), 2)  # what torch's spectral_norm divides by: 6
    b = conv_norm(W, (12, 12), padding=1)
    assert flat == pytest.approx(6) and b.lower > 2 * flat and b.upper <= 18


def test_groups_count_by_their_maximum_not_their_product_or_sum():
    W = np.random.default_rng(7).standard_normal((6, 2, 3))
    W[2:4] *= 10
    whole = conv_norm(W, 20, padding=1, groups=3)
    parts = [conv_norm(W[i : i + 2], 20, padding=1) for i in (0, 2, 4)]
    assert whole.lower == parts[1].lower and whole.upper == max(p.upper for p in parts)
    assert np.flatnonzero(np.abs(whole.witness).max(axis=1)).tolist() == [2, 3]


def test_a_transposed_convolution_has_the_norm_of_its_adjoint():
    W = np.random.default_rng(8).standard_normal((3, 4, 3))
    up = torch.nn.ConvTranspose1d(3, 4, 3, stride=2, padding=1, output_padding=1, bias=False, dtype=torch.float64)
    up.weight.data = torch.tensor(W)
    with torch.no_grad():
        columns = up(torch.eye(3 * 9, dtype=torch.float64).reshape(-1, 3, 9))
    truth = np.linalg.svd(columns.flatten(1).numpy(), compute_uv=False)[0]
    assert holds(conv_norm(W, columns.shape[-1], stride=2, padding=1), truth)


def holds(b, truth):
    return b.lower <= truth * (1 + 1e-13) and truth * (1 - 1e-13) <= b.upper <= truth * (1 + 1e-6)


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e30, 1e150])
def test_scales_and_the_zero_kernel(scale, monkeypatch):
    W = np.random.default_rng(9).standard_normal((2, 3, 3))
    truth = truth_of(W, (11,), padding=1) * scale
    assert holds(conv_norm(W * scale, 11, padding=1), truth)
    zero = conv_norm(0 * W, 11, padding=1)
    assert zero.lower == zero.upper == 0 and zero.is_exact and zero.witness.shape == (3, 11)
    never_materialise(monkeypatch)
    b = conv_norm(W * scale, 11, padding=1)
    assert b.lower <= truth * (1 + 1e-13) and b.upper >= truth * (1 - 1e-13)


def test_the_certificate_over_all_frequencies_can_refuse():
    job = convolutions._job(np.random.default_rng(10).standard_normal((3, 3, 3)), 16, 1, 1, "zeros", 1, 1)
    (_, C), *_ = convolutions._symbols(job, (18,), (1,), (0,))
    G = (C @ np.conj(np.swapaxes(C, -1, -2)))[0]
    top = np.linalg.norm(C[0], 2, axis=(1, 2)).max()
    assert convolutions._above_all(G, top * (1 - 1e-9), 0.0, 3) is None
    assert top <= convolutions._above_all(G, top * (1 + 1e-9), 0.0, 3) <= top * (1 + 2e-9)


def test_a_frequency_that_the_search_misses_is_found_by_the_certificate(monkeypatch):
    never_materialise(monkeypatch)
    W = np.random.default_rng(11).standard_normal((4, 4, 3, 3))
    right = conv_norm(W, (14, 14), padding=1)
    monkeypatch.setattr(convolutions, "_rayleigh", lambda G: np.arange(len(G), dtype=float)[::-1])
    wrong_start = conv_norm(W, (14, 14), padding=1)
    assert wrong_start.upper >= truth_of(W, (14, 14), padding=1) * (1 - 1e-13)
    assert wrong_start.upper == pytest.approx(right.upper, rel=2e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(weight=np.ones((2, 2))), "weight must have shape"),
        (dict(weight=np.ones((2, 1, 3), np.float16)), r"weight holds float16 .* \.float\(\)"),
        (dict(weight=np.full((2, 1, 3), math.nan)), "weight holds NaN"),
        (dict(weight=np.ones((0, 1, 3))), "weight is empty"),
        (dict(input_shape=(8, 8)), "input_shape"),
        (dict(input_shape=0), "input_shape"),
        (dict(input_shape=2), "smaller than the kernel"),
        (dict(stride=0), "stride"),
        (dict(dilation=1.5), "dilation"),
        (dict(groups=3), "groups"),
        (dict(padding="full"), "padding"),
        (dict(padding=-1), "padding"),
        (dict(padding="same", stride=2), "stride 1"),
        (dict(padding_mode="reflect"), "padding_mode"),
        (dict(padding_mode="circular", padding=9), "wraps around"),
        (dict(rtol=2), "rtol"),
    ],
)
def test_bad_arguments_are_named(change, words):
    arguments = dict(weight=np.ones((2, 1, 3)), input_shape=8) | change
    with pytest.raises((ValueError, TypeError), match=words):
        conv_norm(arguments.pop("weight"), arguments.pop("input_shape"), **arguments)


def test_torch_tensors_and_integers_are_taken():
    W = np.array([[[1, 2, 1]]])
    assert conv_norm(W, 9) == conv_norm(torch.tensor(W).float(), 9) == conv_norm(W.tolist(), (9,))
