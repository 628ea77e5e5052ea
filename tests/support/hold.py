"""Hold connections until killed: `python -m tests.support.hold PORT COUNT [TOKEN]`."""

from __future__ import annotations

import sys
import time

from tests.support.raw import Raw

port, count, *token = sys.argv[1:]
headers = [("Authorization", f"Bearer {token[0]}")] if token else []
held = [Raw(int(port)).open(headers=headers) for _ in range(int(count))]
print("holding", flush=True)
time.sleep(600)
