"""limitlib.performance.spectral: closed forms against mpmath and against real iterations, both directions of T6.3."""

import math

import mpmath as mp
import numpy as np
import pytest
from scipy import special

from limitlib.performance import DecayLaw, PowerLawMass, PowerLawModel, SpectralMeasure

KAPPAS = (0.25, 0.5, 1.0, 2.0)


def pure(kappa, **more):
    return SpectralMeasure(parts=[PowerLawMass(kappa, **more)])


def exact(kappa, K, gap=0.0, log=False):
    """The integral to 40 digits."""
    with mp.workdps(40):
        k, n = mp.mpf(kappa), 2 * mp.mpf(K)
        value = (1 - mp.mpf(gap)) ** n * k * mp.beta(k, n + 1)
        return float(value * k * (mp.digamma(n + 1 + k) - mp.digamma(k)) if log else value)


def test_small_cases_by_hand():
    K = np.arange(50.0)
    np.testing.assert_allclose(pure(1.0).error(K), 1 / (2 * K + 1), rtol=1e-13)
    np.testing.assert_allclose(pure(2.0).error(K), 2 / ((2 * K + 1) * (2 * K + 2)), rtol=1e-13)
    np.testing.assert_allclose(pure(0.5).mass([0.0, 0.25, 1.0]), [0, 0.5, 1])
    assert pure(0.5).error(0.5) == pytest.approx(0.5 * math.pi**0.5 * math.gamma(2) / math.gamma(2.5), rel=1e-13)


def test_closed_forms_agree_with_mpmath():
    rng = np.random.default_rng(0)
    for _ in range(200):
        kappa, K = 10 ** rng.uniform(-2, 1.7), 10 ** rng.uniform(-1, 12)
        gap, log = rng.choice([0.0, rng.uniform(0, min(0.9, 200 / K))]), bool(rng.integers(2))
        assert pure(kappa, gap=gap, log=log).error(K) == pytest.approx(exact(kappa, K, gap, log), rel=1e-9)


def test_the_integral_itself():
    """Against numerical integration of (1-u)^(2K) with respect to the mass, where that is possible."""
    for kappa, gap, log, K in ((0.7, 0.0, False, 3), (1.3, 0.2, True, 5), (0.4, 0.0, True, 2)):
        part = PowerLawMass(kappa, weight=2.0, gap=gap, log=log)
        # by parts: the mass times 2K (1-u)^(2K-1)
        value = mp.quad(
            lambda u, m=part.mass, k=K: float(m(float(u))) * 2 * k * (1 - u) ** (2 * k - 1), [gap, gap + 0.01, 0.5, 1]
        )
        assert float(part.error(K)) == pytest.approx(float(value), rel=1e-6)


@pytest.mark.parametrize("kappa", KAPPAS)
def test_mass_gives_the_power_law_and_back(kappa):
    """T6.3 forwards: E K^kappa tends to C Gamma(kappa+1) 2^-kappa. Backwards: slope and constant of E give the mass."""
    nu = pure(kappa, weight=3.0)
    law, K = nu.law(), np.array([1e4, 1e6, 1e8])
    assert law == DecayLaw("power law", 0.0, 0.0, 0.0, kappa, 3.0)
    np.testing.assert_allclose(nu.error(K) / law.leading(K), 1, rtol=kappa * (kappa + 1) / 1e4 + 1e-9)
    slope = -np.diff(np.log(nu.error(K)))[-1] / math.log(100)
    constant = nu.error(K[-1]) * (2 * K[-1]) ** slope / math.gamma(slope + 1)
    u = 1e-6
    assert constant * u**slope == pytest.approx(float(nu.mass(u)), rel=1e-3)


def test_a_gap_gives_the_exponential_and_nothing_else_does():
    nu, K = pure(0.5, gap=0.05), np.array([0.0, 10, 100, 1000])
    np.testing.assert_allclose(nu.error(K), 0.95 ** (2 * K) * pure(0.5).error(K), rtol=1e-12)
    assert nu.law().kind == "exponential" and nu.law().rate == pytest.approx(-2 * math.log(0.95))
    assert (nu.error(K) <= 0.95 ** (2 * K) * (1 + 1e-12)).all()
    for q in (0.9, 0.99, 0.9999):  # negative control: without a gap every exponential is beaten in the end
        late = 60 / (1 - q)
        assert pure(2.0).error(late) > 1e6 * q ** (2 * late)
    with pytest.raises(ValueError, match="no power-law leading term"):
        nu.law().leading(10)


def test_what_lies_at_zero_stays():
    nu = SpectralMeasure(parts=[PowerLawMass(1.0, 0.5)], atoms=[0.0, 1.0, 0.3], weights=[0.25, 4.0, 0.125])
    assert nu.limit == nu.error(math.inf) == nu.law().limit == 0.25
    assert nu.error(0) == pytest.approx(4.875) and nu.mass(1.0) == pytest.approx(4.875)  # 0^0 = 1
    assert nu.error(1) == pytest.approx(0.25 + 0.5 / 3 + 0.125 * 0.49)
    assert nu.law().kind == "power law"
    assert SpectralMeasure(atoms=[0.0], weights=[2.0]).law().kind == "constant"
    only = SpectralMeasure(atoms=[1.0], weights=[2.0])
    assert only.law().rate == math.inf and only.error([0, 1, 2]).tolist() == [2, 0, 0]


def test_logarithm_and_mixture():
    nu = SpectralMeasure(
        parts=[PowerLawMass(0.5, 2.0, log=True), PowerLawMass(0.5, 7.0), PowerLawMass(2.0), PowerLawMass(0.1, 9.0, gap=0.5)]
    )
    law = nu.law()
    assert (law.kind, law.exponent, law.prefactor) == ("power law with logarithm", 0.5, 1.0)
    ratios = nu.error([1e6, 1e9, 1e12]) / law.leading([1e6, 1e9, 1e12])
    assert (np.diff(ratios) < 0).all() and (ratios > 1).all()
    u = np.array([1e-9, 1e-6])
    np.testing.assert_allclose(nu.mass(u), 2 * u**0.5 * (1 + 0.5 * np.log(1 / u)) + 7 * u**0.5 + u**2, rtol=1e-12)


def test_matrices_against_their_iteration():
    """The spectral formula against K multiplications, and its failure for a matrix that is not symmetric."""
    rng = np.random.default_rng(3)
    for d in (1, 4, 12):
        Q = np.linalg.qr(rng.standard_normal((d, d)))[0]
        u = np.concatenate([[0.0], rng.uniform(0, 1, d - 1)])
        A, x = (Q * u) @ Q.T, rng.standard_normal((d, 2))
        nu = SpectralMeasure.of_matrix(A, x)
        y = x.copy()
        for k in range(30):
            assert nu.error(k) == pytest.approx((y**2).sum(), rel=1e-10)
            y = y - A @ y
        assert nu.limit == pytest.approx(((Q[:, 0] @ x) ** 2).sum(), rel=1e-10)
    with pytest.raises(ValueError, match="symmetric"):
        SpectralMeasure.of_matrix([[0.5, 0.5], [0.0, 0.5]], [1.0, 0.0])
    with pytest.raises(ValueError, match="spectrum in"):
        SpectralMeasure.of_matrix([[1.5]], [1.0])
    with pytest.raises(ValueError, match="spectrum in"):
        SpectralMeasure.of_matrix([[-0.1]], [1.0])
    with pytest.raises(ValueError, match="x must be"):
        SpectralMeasure.of_matrix([[0.1]], [1.0, 2.0])


def test_two_rooms_one_model():
    """The power-law model, cut at P modes, is a spectral measure of P atoms and a floor at 0."""
    model = PowerLawModel(1.5, 2.0, eta=0.5)
    values, energies = model.spectrum(50)
    nu = SpectralMeasure(atoms=np.append(0.5 * values, 0.0), weights=np.append(energies, model.error(P=50)))
    K = np.array([0.0, 1, 30, 1e3, 1e5])
    np.testing.assert_allclose(nu.error(K), model.error(P=50, K=K), rtol=1e-9)
    assert nu.law().rate == pytest.approx(-2 * math.log1p(-0.5 * 50**-1.5))


def test_an_exponential_fit_extrapolates_wrongly_where_the_gap_is_closed():
    """The control of the chapter: fitted on one decade, wrong by orders of magnitude one decade later; right with a gap."""
    K, late = np.geomspace(100, 1000, 20), 10_000.0
    mixed = SpectralMeasure(atoms=[0.001, 0.5], weights=[0.5, 0.5])  # one slow mode above a gap
    for nu, low, high in ((pure(0.5), 1e-30, 1e-3), (mixed, 0.999, 1.001)):
        rate, start = np.polyfit(K, np.log(nu.error(K)), 1)
        assert low < math.exp(start + rate * late - math.log(nu.error(late))) < high


@pytest.mark.parametrize(("make", "message"), [
    (lambda: PowerLawMass(0.0), "kappa=0.0 must be positive"),
    (lambda: PowerLawMass(-1.0), "kappa"),
    (lambda: PowerLawMass(math.nan), "finite"),
    (lambda: PowerLawMass(1.0, gap=1.0), "gap=1.0 must lie in"),
    (lambda: PowerLawMass(1.0, gap=-0.1), "gap"),
    (lambda: PowerLawMass(1.0, weight=-1.0), "weight"),
    (lambda: SpectralMeasure(atoms=[0.5], weights=[-1.0]), "weights must be finite masses"),
    (lambda: SpectralMeasure(atoms=[1.5], weights=[1.0]), "atoms must lie"),
    (lambda: SpectralMeasure(atoms=[math.nan], weights=[1.0]), "atoms must lie"),
    (lambda: SpectralMeasure(atoms=[0.5, 0.2], weights=[1.0]), "one length"),
    (lambda: pure(1.0).error(-1.0), "K must be"),
    (lambda: pure(1.0).error(math.nan), "K must not be NaN"),
    (lambda: pure(1.0).mass(math.nan), "NaN"),
    (lambda: pure(1.0).law().leading(0.0), "positive"),
    (lambda: PowerLawMass(1.0).error(-3.0), "K must be"),
    (lambda: SpectralMeasure(atoms=[0.5, 0.6], weights=[1e308, 1e308]), "finite masses"),
    (lambda: SpectralMeasure.of_matrix(np.zeros((0, 0)), []), "at least 1 by 1"),
])  # fmt: skip
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_types():
    with pytest.raises(TypeError, match="kappa"):
        PowerLawMass("1")
    with pytest.raises(TypeError, match="log='no'"):
        PowerLawMass(1.0, log="no")
    with pytest.raises(TypeError, match="PowerLawMass"):
        SpectralMeasure(parts=[1.0])
    with pytest.raises(TypeError, match="into a list"):
        SpectralMeasure(parts=PowerLawMass(1.0))
    with pytest.raises(TypeError, match="real"):
        SpectralMeasure.of_matrix([[0.5 + 1j]], [1.0])


def test_extreme_sizes():
    """Steps near the largest float, tiny atoms and large exponents: right or zero, and never a warning."""
    assert pure(0.5).error([1e300, math.inf]).tolist() == pytest.approx([0.5 * math.gamma(0.5) * 2e300**-0.5, 0], rel=1e-9)
    assert pure(0.5, gap=0.3, log=True).error([0.0, 1e308]).tolist() == pytest.approx([1, 0])
    tiny = SpectralMeasure(atoms=[1e-300], weights=[1.0])
    assert tiny.error([1e300, 1e308]).tolist() == pytest.approx([math.exp(-2), 0], rel=1e-12)
    assert pure(1e6).error(1.0) == pytest.approx(2 / (1e6 + 1) / (1e6 + 2), rel=1e-9)
    assert pure(400.0).law().leading(1e3) == pytest.approx(float(mp.gamma(401) / mp.mpf(2000) ** 400), rel=1e-9)


def test_critical_without_a_power_law():
    """C6.1: no gap, and E K^kappa has no limit for any kappa: exp(-sqrt(2K)), a logarithm, atoms in geometric progression."""
    z = (np.arange(6000) + 0.5) * 2e-3
    weights = np.exp(-(z**2) / 2)
    stretched = SpectralMeasure(atoms=-np.expm1(-1 / (2 * z**2)), weights=weights / weights.sum())
    K = np.array([2.0, 18.0, 50.0, 98.0])
    np.testing.assert_allclose(stretched.error(K), np.exp(-np.sqrt(2 * K)), rtol=1e-8)
    # Gamma law of shape r in t, r exponential: E = 1/(1 + ln(1+2K)). Here t in cells of width e^(1/20), r by Gauss and Laguerre
    edges = np.exp(np.arange(-600, 5, 0.05))
    r, chance = np.polynomial.laguerre.laggauss(40)
    cells = np.diff(special.gammainc(r[:, None], edges), axis=1, prepend=0.0)
    t = edges * np.exp(-0.025)
    slow = SpectralMeasure(atoms=-np.expm1(-t), weights=chance @ cells)
    K = np.array([1.0, 1e3, 1e6])
    np.testing.assert_allclose(slow.error(K), 1 / (1 + np.log1p(2 * K)), rtol=1e-3)
    assert (np.diff(slow.error(K) * K**0.25) > 0).all()  # slower than a power
    j = np.arange(1, 20)
    ladder = SpectralMeasure(atoms=10.0**-j, weights=10.0 ** (-j / 2))
    for decade in (3, 6, 9):
        K = 10.0 ** np.linspace(decade, decade + 1, 200)
        scaled = ladder.error(K) * K**0.5
        assert 1.07 < scaled.max() / scaled.min() < 1.1
        assert ladder.error(K[-1]) / ladder.error(K[0]) == pytest.approx(10**-0.5, rel=2e-3)
