"""`tidegate.run` with the settings of TIDEGATE_CONFIG."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import tidegate

if __name__ == "__main__":
    settings = tomllib.loads(Path(os.environ["TIDEGATE_CONFIG"]).read_text())
    tidegate.run("tests.support.asgi_programs:app", settings, access_log=False)
