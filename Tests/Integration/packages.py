"""The real input: every package that apt knows, name → whole stanza (60,000 values from 200 bytes to tens of KB)."""

import random
import subprocess

from harness import Skipped


def stanzas(limit=None):
    """Of several versions of a package the last wins. `limit` takes a sample that is the same on every run."""
    try:
        text = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise Skipped("no apt-cache here") from None
    found = {}
    for stanza in text.split(b"\n\n"):
        if stanza.startswith(b"Package: "):
            name = stanza[len(b"Package: "):stanza.index(b"\n")].decode()
            found[f"package:{name}"] = stanza
    if not found:
        raise Skipped("apt-cache knows no packages here")
    if limit and limit < len(found):
        names = random.Random(1).sample(sorted(found), limit)
        found = {name: found[name] for name in names}
    return found
