from twostage.runs.hints import open_edge, plateau

POINTS = [(1e-4, 0.5), (1e-3, 0.88), (1e-2, 0.9), (1e-1, 0.89)]


def test_a_plateau_is_three_rates_that_one_standard_error_cannot_tell_apart():
    assert plateau(POINTS, 100) == (1e-3, 1e-1) and plateau(POINTS, 1_000_000) is None
    assert plateau(POINTS[:3], 100) is None  # two rates
    dip = [*POINTS[:3], (1e-1, 0.5), (1.0, 0.9)]
    assert plateau(dip, 100) is None  # what lies beyond a dip is another hill
    assert plateau([(1e-3, 0.0)], 0) is None and plateau([(lr, 1.0) for lr, _ in POINTS], 10) == (1e-4, 1e-1)


def test_an_edge_is_open_only_where_the_best_rate_is_on_no_plateau():
    assert open_edge(POINTS[:3], 100) and open_edge(POINTS[2:], 100)
    assert not open_edge(POINTS, 1_000_000)  # the best lies inside
    rising = [(1e-4, 0.5), (1e-3, 0.88), (1e-2, 0.89), (1e-1, 0.9)]
    assert not open_edge(rising, 100) and open_edge(rising, 1_000_000)
    assert not open_edge([(1e-3, 0.9)], 100)
