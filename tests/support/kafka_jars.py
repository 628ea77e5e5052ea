"""Fetches the jars of Kafka with Maven, once: `python -m tests.support.kafka_jars`.

They are kept under `build/`. `TIDEGATE_TEST_KAFKA` names a folder that has them already.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["jars"]

_VERSION: Final = "4.3.1"
_FOLDER: Final = Path(__file__).parents[2] / "build" / f"kafka-{_VERSION}"
_ATTEMPTS: Final = 3
_SECONDS: Final = 120
_POM: Final = f"""\
<project><modelVersion>4.0.0</modelVersion>
<groupId>x</groupId><artifactId>x</artifactId><version>1</version><dependencies><dependency>
<groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{_VERSION}</version>
</dependency></dependencies></project>
"""


@cache
def jars() -> str:
    """Return the folder of the jars; empty where they are not and cannot be fetched."""
    given = os.environ.get("TIDEGATE_TEST_KAFKA", "")
    if shutil.which("java") is None or given:
        return given if shutil.which("java") else ""
    folder = _FOLDER / "jars"
    if folder.is_dir():
        return str(folder)
    if shutil.which("mvn") is None:
        return ""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with (_FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several processes of tests may begin at once
        if not folder.is_dir() and not _fetched(folder):
            return ""
    return str(folder)


def _fetched(folder: Path) -> bool:
    """Have Maven copy them; the folder is there only when all are."""
    pom, new = _FOLDER / "pom.xml", _FOLDER / "new"
    pom.write_text(_POM)
    copy = ["dependency:copy-dependencies", f"-DoutputDirectory={new}"]
    for attempt in range(_ATTEMPTS):
        time.sleep(2 * attempt)
        try:
            done = subprocess.run(
                ["mvn", "-q", "-B", "-f", str(pom), *copy],
                timeout=_SECONDS,
                capture_output=True,
                text=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            said = f"it took more than {_SECONDS} s"
        else:
            if done.returncode == 0:
                new.rename(folder)
                return True
            said = done.stdout.strip()[-500:]
        print(f"the jars of Kafka cannot be fetched: {said}", file=sys.stderr)
    return False


if __name__ == "__main__":
    sys.exit(0 if jars() else "no jars of Kafka: it needs java, and mvn or TIDEGATE_TEST_KAFKA")
