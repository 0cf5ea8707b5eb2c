#!/bin/sh
# Installs the locked packages and this project into a virtual environment: sh install.sh .venv
# Every package comes from requirements.lock, by hash; uv (itself locked) does it, pip where uv cannot be had.
set -eu
venv=${1:-.venv}
python=${PYTHON:-python3}
unset PYTHONDONTWRITEBYTECODE || true

"$python" - <<'CHECK' || exit 1
import sys
if not (3, 11) <= sys.version_info[:2] < (3, 14):
    sys.exit(f"kit needs Python 3.11 to 3.13, {sys.executable} is {sys.version.split()[0]}; set PYTHON=python3.x")
CHECK

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
bin=$venv/bin
pins=$venv/uv.lock.txt
sed -n '/^uv==/,/^[^ ]/{/^uv==/p;/^ /p;}' requirements.lock >"$pins"

if [ -x "$bin/uv" ] || "$bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$pins"; then
    # --link-mode copy: the package cache and the project may be on different file systems
    "$bin/uv" pip install --python "$bin/python" --link-mode copy --require-hashes -r requirements.lock
    "$bin/uv" pip install --python "$bin/python" --quiet --no-deps --no-build-isolation -e .
else
    echo "uv is not available here: installing with pip, which takes longer" >&2
    "$bin/python" -m pip install --disable-pip-version-check --require-hashes -r requirements.lock
    "$bin/python" -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
fi
"$bin/python" -m compileall -q -j 0 "$venv/lib" >/dev/null 2>&1 || true # a few packages ship files of other Pythons
