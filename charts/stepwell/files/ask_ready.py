"""Ask the operator until it is ready, for two minutes at most; end with what it said last."""

import os
import sys
import time
import urllib.error
import urllib.request


def main():
    said = ""
    deadline = time.monotonic() + float(os.environ.get("PATIENCE", "120"))
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(os.environ["URL"], timeout=5) as answer:
                print(answer.read().decode(), end="")
                return
        except urllib.error.HTTPError as refused:
            said = f"the operator answers {refused.code}\n{refused.read().decode()}"
        except OSError as error:
            said = f"the operator can't be reached: {error}"
        time.sleep(1)
    sys.exit(said)


main()
