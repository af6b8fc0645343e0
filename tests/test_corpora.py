"""limitlib.corpora: the digits are split once and for all, the text is the running Python's own."""

import numpy as np
import pytest

from limitlib import corpora


def test_the_digits_are_standardised_with_training_statistics_alone():
    data = corpora.digits()
    assert data.x.shape == (1347, 64) and data.x_test.shape == (450, 64)
    assert len(data.y) == 1347 and len(data.y_test) == 450 and set(data.y) == set(range(10))
    assert np.abs(data.x.mean(0)).max() < 1e-12
    spread = data.x.std(0)
    assert np.allclose(spread[spread > 0], 1)
    assert np.abs(data.x_test.mean(0)).max() > 1e-3  # not standardised by its own statistics


def test_every_character_has_its_place():
    alphabet = corpora.ALPHABET
    assert len(alphabet) == len(set(alphabet)) == 97
    assert corpora.encode(alphabet).tolist() == list(range(97))
    assert corpora.encode("\t\u00e9\r\U0001f600").tolist() == [1, 1, 1, 1, 96, 96, 96]
    assert corpora.encode("").size == 0


def test_the_text_is_split_by_file_and_named_by_its_hash():
    corpus = corpora.python_source()
    assert len(corpus.train) > 5 * len(corpus.test) > 100_000
    assert corpus.train.max() < len(corpus.alphabet) and len(corpus.sha256) == 64
    assert corpus is corpora.python_source()


def test_windows_are_contexts_and_what_follows_them():
    contexts, following = corpora.windows(np.arange(10, dtype=np.uint8), 3, np.array([[0, 6]]))
    assert contexts.tolist() == [[[0, 1, 2], [6, 7, 8]]] and following.tolist() == [[3, 9]]
    for bad in (-1, 7):
        with pytest.raises(ValueError, match=r"\[0, 6\]"):
            corpora.windows(np.arange(10, dtype=np.uint8), 3, np.array([bad]))
