"""limitlib.scaling.published: closed forms first, the allocation against a search, and what a dropped hypothesis does to it."""

import dataclasses
import math

import numpy as np
import pytest

from limitlib.scaling import (
    BESIROGLU,
    BROWN_COMPUTE,
    HOFFMANN_ROUNDED,
    HOFFMANN_TEX,
    HOFFMANN_TEX_FULL,
    KAPLAN_COMPUTE_MIN,
    KAPLAN_COMPUTE_NAIVE,
    KAPLAN_D,
    KAPLAN_JOINT,
    KAPLAN_N,
    MUENNIGHOFF,
    PF_DAY,
    ChinchillaLaw,
    KaplanJointLaw,
    SinglePowerLaw,
    allocation_constants,
    dense_family_error,
    exponential_decade_ratios,
    from_pf_days,
    lifetime_flops,
    numeric_allocation,
    optimal_allocation,
    to_pf_days,
    training_flops,
)

PUBLISHED = {
    "rounded": HOFFMANN_ROUNDED,
    "tex": HOFFMANN_TEX,
    "full": HOFFMANN_TEX_FULL,
    "besiroglu": BESIROGLU,
    "muennighoff": MUENNIGHOFF,
}


def random_law(rng):
    alpha, beta = rng.uniform(0.05, 1.2, size=2)
    return ChinchillaLaw(rng.uniform(0, 3), 10 ** rng.uniform(0, 4), 10 ** rng.uniform(0, 4), alpha, beta)


# ---------------------------------------------------------------- units and single laws


def test_compute_units():
    assert PF_DAY == 8.64e19
    assert training_flops(175e9, 300e9) == 3.15e23
    assert to_pf_days(3.15e23) == pytest.approx(3645.8333333, rel=1e-9)
    assert from_pf_days(to_pf_days(5.76e23)) == pytest.approx(5.76e23, rel=1e-15)
    assert lifetime_flops(1e9, 2e10) == training_flops(1e9, 2e10)
    assert lifetime_flops(1e9, 2e10, inference_tokens=3e10) == pytest.approx(6 * 2e19 + 2 * 3e19, rel=1e-15)


@pytest.mark.parametrize("law", [KAPLAN_N, KAPLAN_D, KAPLAN_COMPUTE_MIN, KAPLAN_COMPUTE_NAIVE, BROWN_COMPUTE])
def test_single_power_law_is_one_at_its_scale_and_has_one_ratio_per_decade(law):
    assert law.loss(**{law.unit: law.scale}) == 1.0
    x = law.scale * 10.0 ** -np.arange(8)
    values = law.loss(**{law.unit: x})
    assert values[1:] / values[:-1] == pytest.approx(np.full(7, 10**law.exponent), rel=1e-12)


def test_prefactor_form_is_the_loss_at_one_unit():
    assert BROWN_COMPUTE.loss(pf_days=1) == pytest.approx(2.57, rel=1e-12)
    assert BROWN_COMPUTE.loss(pf_days=3640) == pytest.approx(2.57 * 3640**-0.048, rel=1e-12)


def test_a_quantity_in_another_unit_is_an_error():
    with pytest.raises(TypeError, match="takes pf_days"):
        KAPLAN_COMPUTE_MIN.loss(n_params=3640)
    with pytest.raises(TypeError, match="not nothing"):
        KAPLAN_N.loss()
    with pytest.raises(TypeError, match="takes n_params"):
        KAPLAN_N.loss(n_params=1e9, n_tokens=1e9)


# ---------------------------------------------------------------- Kaplan's joint law


def test_joint_law_tends_to_the_single_laws_of_its_own_constants():
    assert KAPLAN_JOINT.loss(1e9, 1e60) == pytest.approx((6.4e13 / 1e9) ** 0.076, rel=1e-9)
    assert KAPLAN_JOINT.loss(1e60, 1e10) == pytest.approx((1.8e13 / 1e10) ** 0.103, rel=1e-9)


def test_joint_law_is_not_the_sum_of_the_single_laws():
    """Erratum N2 with its number: the sum is nearly twice the joint law at GPT-3's size."""
    joint = KAPLAN_JOINT.loss(175e9, 300e9)
    total = KAPLAN_N.loss(n_params=175e9) + KAPLAN_D.loss(n_tokens=300e9)
    assert (joint, total) == (pytest.approx(1.661, abs=5e-4), pytest.approx(3.242, abs=5e-4))
    flat = KaplanJointLaw(6.4e13, 1.8e13, 0.1, 1.0)  # alpha_d = 1: only then it is a sum of powers
    assert flat.loss(1e9, 1e10) == pytest.approx((6.4e13 / 1e9) ** 0.1 + 1.8e13 / 1e10, rel=1e-12)


# ---------------------------------------------------------------- the closed form (T9.1)


def test_allocation_of_a_hand_solved_law():
    """A = B, alpha = beta = 1/2: G = 1, N* = D* = sqrt(C/6), L* = E + 2 A (C/6)^(-1/4)."""
    law = ChinchillaLaw(1.0, 3.0, 3.0, 0.5, 0.5)
    at = optimal_allocation(law, 6e8)
    assert (at.n_params, at.n_tokens, at.loss) == pytest.approx((1e4, 1e4, 1.06), rel=1e-12)
    assert at.kind == "exact" and at.tokens_per_param == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "G", "a", "exponent", "n_opt", "ratio"),
    [
        ("rounded", 1.34471, 0.4516, 0.15355, 3.219e10, 92.65),
        ("tex", 1.30039, 0.4565, 0.15484, 4.031e10, 59.08),
        ("besiroglu", 0.11963, 0.5126, 0.17829, 7.225e10, 18.39),
    ],
)
def test_published_table(name, G, a, exponent, n_opt, ratio):
    c, at = allocation_constants(PUBLISHED[name]), optimal_allocation(PUBLISHED[name], 5.76e23)
    found = (c.G, c.a, c.loss_exponent, at.n_params, at.tokens_per_param)
    assert found == pytest.approx((G, a, exponent, n_opt, ratio), rel=5e-4)
    assert c.a + c.b == pytest.approx(1.0, rel=1e-15)


def test_closed_form_satisfies_constraint_stationarity_and_value():
    rng = np.random.default_rng(1)
    for _ in range(200):
        law, flops = random_law(rng), 10 ** rng.uniform(12, 28)
        at = optimal_allocation(law, flops)
        assert training_flops(at.n_params, at.n_tokens) == pytest.approx(flops, rel=1e-11)
        size = law.alpha * law.A * at.n_params**-law.alpha
        assert size == pytest.approx(law.beta * law.B * at.n_tokens**-law.beta, rel=1e-10)
        assert at.loss == pytest.approx(law.loss(at.n_params, at.n_tokens), rel=1e-12)


def test_closed_form_is_below_every_other_split_of_the_budget():
    rng = np.random.default_rng(2)
    for _ in range(100):
        law, flops = random_law(rng), 10 ** rng.uniform(16, 26)
        at = optimal_allocation(law, flops)
        n = at.n_params * np.exp(rng.normal(scale=2.0, size=50))
        others = law.reducible_loss(n, flops / 6 / n)
        assert np.all(others >= law.reducible_loss(at.n_params, at.n_tokens) * (1 - 1e-12))


def test_search_agrees_with_the_closed_form():
    """Experiment E9.2: N* to 1e-6 relative, L* to 1e-12, for the published constants and for random ones."""
    rng = np.random.default_rng(3)
    cases = [(law, c) for law in PUBLISHED.values() for c in (1e18, 5.76e23, 1e27)]
    while len(cases) < 60:
        law, flops = random_law(rng), 10 ** rng.uniform(18, 26)
        at = optimal_allocation(law, flops)
        if min(at.n_params, at.n_tokens) > 10.0:  # the search stays above one parameter and one token
            cases.append((law, flops))
    for law, flops in cases:
        exact, found = optimal_allocation(law, flops), numeric_allocation(law, flops)
        assert found.kind == "estimate"
        assert found.n_params == pytest.approx(exact.n_params, rel=1e-6)
        assert found.loss == pytest.approx(exact.loss, abs=1e-12 * max(1.0, exact.loss))


def test_search_rejects_the_inverted_formula():
    """Negative control: G turned upside down is caught by the search, by far more than its tolerance."""
    c = allocation_constants(HOFFMANN_ROUNDED)
    wrong = (5.76e23 / 6) ** c.a / c.G
    assert abs(numeric_allocation(HOFFMANN_ROUNDED, 5.76e23).n_params / wrong - 1) > 0.5


def test_allocation_broadcasts_over_budgets():
    budgets = np.array([1e19, 1e22, 1e25])
    together = optimal_allocation(BESIROGLU, budgets)
    for i, budget in enumerate(budgets):
        alone = optimal_allocation(BESIROGLU, budget)
        assert (together.n_params[i], together.loss[i]) == (alone.n_params, alone.loss)


def test_ratio_is_constant_iff_the_exponents_agree():
    budgets = np.logspace(18, 27, 10)
    equal = optimal_allocation(ChinchillaLaw(1.7, 406.4, 410.7, 0.31, 0.31), budgets).tokens_per_param
    assert equal == pytest.approx(np.full(10, (406.4 / 410.7) ** (-2 / 0.62)), rel=1e-12)
    for gap in (-0.02, 0.02):
        ratio = optimal_allocation(ChinchillaLaw(1.7, 406.4, 410.7, 0.31 + gap / 2, 0.31 - gap / 2), budgets).tokens_per_param
        assert ratio[1:] / ratio[:-1] == pytest.approx(np.full(9, 10 ** (gap / 0.62)), rel=1e-9)
        assert abs(ratio[-1] / ratio[0] - 1) > 0.4


def test_the_published_fit_with_one_exponent_has_one_ratio():
    """exp((7.3049974 - 6.255414) / 0.3526596) = 19.613028 at every budget, by the formula and by the search."""
    rounded = (MUENNIGHOFF.E, MUENNIGHOFF.A, MUENNIGHOFF.B)
    assert rounded == (pytest.approx(1.87, abs=5e-3), pytest.approx(521, abs=0.5), pytest.approx(1488, abs=0.5))
    for budget in (1e18, 5.76e23, 1e27):
        assert optimal_allocation(MUENNIGHOFF, budget).tokens_per_param == pytest.approx(19.613028, rel=1e-7)
        assert numeric_allocation(MUENNIGHOFF, budget).tokens_per_param == pytest.approx(19.613028, rel=2e-6)


def test_irreducible_loss_does_not_move_the_optimum():
    shifted = dataclasses.replace(BESIROGLU, E=0.0)
    assert optimal_allocation(shifted, 1e22).n_params == optimal_allocation(BESIROGLU, 1e22).n_params


# ---------------------------------------------------------------- another constraint


def test_serving_moves_the_optimum_to_smaller_models():
    """With 2NM in the budget T9.1 does not apply: the search leaves it, towards fewer parameters and more tokens each."""
    before = optimal_allocation(BESIROGLU, 5.76e23)
    for served in (1e11, 1e12, 1e13):
        at = numeric_allocation(BESIROGLU, 5.76e23, inference_tokens=served)
        assert lifetime_flops(at.n_params, at.n_tokens, inference_tokens=served) == pytest.approx(5.76e23, rel=1e-12)
        assert at.n_params < before.n_params and at.tokens_per_param > before.tokens_per_param and at.loss > before.loss
        # stationarity of the loss along this constraint, at the found point
        size = BESIROGLU.alpha * BESIROGLU.A * at.n_params**-BESIROGLU.alpha
        tokens = BESIROGLU.beta * BESIROGLU.B * at.n_tokens ** (-BESIROGLU.beta - 1) * (5.76e23 / (6 * at.n_params))
        assert size == pytest.approx(tokens, rel=1e-6)
        before = at


def test_search_refuses_an_optimum_at_the_edge():
    nearly_free_tokens = ChinchillaLaw(0.0, 1.0, 1e-300, 0.5, 0.5)
    with pytest.raises(ValueError, match="edge of the search"):
        numeric_allocation(nearly_free_tokens, 1e6)


# ---------------------------------------------------------------- exponential against power law (T9.2)


def test_exponential_ratios_are_those_of_an_exponential():
    first, rate = 0.4571, math.log(0.4571) / 9  # q^P through ratio 0.4571 from P = 1 to P = 10
    direct = [math.exp(rate * (10**k - 10 ** (k - 1))) for k in (1, 2, 3)]
    assert exponential_decade_ratios(first, 3) == pytest.approx(direct, rel=1e-9)
    assert exponential_decade_ratios(10**-0.34, 2)[1] == pytest.approx(10**-3.4, rel=1e-12)


# ---------------------------------------------------------------- a dense family without a rate


def test_dense_family_error_is_the_tail_of_its_coefficients():
    j = np.arange(1, 200_001, dtype=float)
    squares = 1 / np.log(j + 1) - 1 / np.log(j + 2)
    assert np.all(squares > 0)
    for n in (1, 10, 1000):
        tail = math.fsum(squares[n:]) + 1 / math.log(j[-1] + 2)  # the rest of the sum telescopes
        assert dense_family_error(n) ** 2 == pytest.approx(tail, rel=1e-12)


def test_dense_family_error_is_no_power():
    """A power law has the same factor in each decade; here the factors rise towards 1, past any power's."""
    errors = dense_family_error(10.0 ** np.arange(1, 301))
    factors = errors[1:] / errors[:-1]
    assert np.all(np.diff(factors) > 0) and factors[-1] > 10**-0.001
    assert np.ptp(np.diff(np.log10(KAPLAN_N.loss(n_params=10.0 ** np.arange(1, 30))))) < 1e-12


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: training_flops(-1, 1), "n_params=-1 must be positive"),
        (lambda: training_flops(1, [1.0, 0.0]), "n_tokens"),
        (lambda: to_pf_days(math.inf), "flops=inf"),
        (lambda: from_pf_days(0), "pf_days=0"),
        (lambda: lifetime_flops(1, 1, inference_tokens=-1), "inference_tokens=-1"),
        (lambda: SinglePowerLaw(1.0, 0.1, "tokens"), "unit='tokens' is none of"),
        (lambda: SinglePowerLaw(1.0, -0.1, "n_tokens"), "exponent=-0.1"),
        (lambda: SinglePowerLaw.from_prefactor(0.0, 0.1, "n_tokens"), "prefactor=0.0"),
        (lambda: KaplanJointLaw(1.0, 1.0, 0.1, 0.0), "alpha_d=0.0"),
        (lambda: ChinchillaLaw(-1.0, 1.0, 1.0, 0.3, 0.3), "E=-1.0"),
        (lambda: ChinchillaLaw(1.0, 1.0, 1.0, 0.3, math.nan), "beta=nan"),
        (lambda: optimal_allocation(BESIROGLU, 0.0), "flops=0.0"),
        (lambda: numeric_allocation(BESIROGLU, np.array([1e20, 1e21])), "give one budget"),
        (lambda: numeric_allocation(BESIROGLU, 5.0), "does not pay for one parameter"),
        (lambda: exponential_decade_ratios(1.0, 2), "first=1.0"),
        (lambda: exponential_decade_ratios(0.5, 0), "decades=0"),
        (lambda: dense_family_error(0), "n_terms=0"),
    ],
)
def test_bad_values_name_the_argument_and_the_value(call, message):
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        call()


def test_bad_types():
    with pytest.raises(TypeError, match="n_params='many'"):
        training_flops("many", 1)


def test_constants_are_frozen_and_say_where_they_stand():
    for law in (*PUBLISHED.values(), KAPLAN_N, KAPLAN_D, KAPLAN_COMPUTE_MIN, KAPLAN_COMPUTE_NAIVE, KAPLAN_JOINT, BROWN_COMPUTE):
        assert "arXiv" in law.source
        with pytest.raises(dataclasses.FrozenInstanceError):
            law.source = ""
