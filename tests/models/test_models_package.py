import subprocess
import sys

import pytest

import anysize.models


def test_importing_the_package_loads_no_torch():
    script = "import sys, anysize.models as m; m.ZOO, m.HEADS; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_peak_finding_loads_no_torch():
    script = "import sys, anysize.models.digits.detect; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_every_public_name_is_there():
    for name in anysize.models.__all__:
        assert getattr(anysize.models, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = anysize.models.nothing
