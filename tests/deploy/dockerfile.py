"""Says what docs/deploy/Dockerfile does, for a test without a container engine.

usage: dockerfile.py FILE build      the commands of the first stage, as a shell script
       dockerfile.py FILE WORD       what the last stage has behind this instruction: USER, COPY, ENTRYPOINT, CMD, ...
"""

import json
import re
import sys

path, wanted = sys.argv[1:]
with open(path) as file:
    text = re.sub(r"^#.*\n", "", file.read(), flags=re.MULTILINE).replace("\\\n", " ")
stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
stage = stages[0] if wanted == "build" else stages[-1]
instructions = [line.split(None, 1) for line in stage.splitlines()[1:] if line.strip()]
if wanted == "build":
    for word, value in instructions:
        if word == "ARG":
            name, default = value.split("=")
            print(f": ${{{name}:={default}}}")
        elif word == "RUN":
            print(value)
else:
    for word, value in instructions:
        if word == wanted:
            print("\n".join(json.loads(value)) if value.startswith("[") else value)
