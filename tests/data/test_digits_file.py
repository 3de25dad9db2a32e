"""The digits are read from scikit-learn's file without importing scikit-learn; they are what it gives itself."""

import subprocess
import sys

import numpy as np
from sklearn.datasets import load_digits

from builder.data.datasets import _digits, _digits_file


def test_the_digits_are_those_that_scikit_learn_gives():
    file, theirs = _digits_file(), load_digits()
    assert file is not None
    ours = _digits(file)
    np.testing.assert_array_equal(ours.images, theirs.images)
    np.testing.assert_array_equal(ours.target, theirs.target)
    np.testing.assert_array_equal(ours.target_names, theirs.target_names)
    assert ours.target.dtype == theirs.target.dtype


def test_scikit_learn_is_not_imported_for_the_digits():
    code = (
        "import sys; from builder.data.datasets import sklearn_dataset; sklearn_dataset('digits', seed=0); "
        "assert 'sklearn' not in sys.modules and 'scipy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
