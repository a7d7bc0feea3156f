# Sourced with the name of an engine, and its pins where they are elsewhere: makes its environment, once; sets `python`, the project's.
python=${PYTHON:-$root/.venv/bin/python}
[[ -x $python ]] || python=$(command -v python3)
pins=${2:-$root/scripts/orchestrators/$1.txt}
environment=$root/.environments/$1
if ! cmp -s "$pins" "$environment/pins.txt"; then
    echo "making $environment" >&2
    "$python" -m venv --clear "$environment"
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$pins"
    cp "$pins" "$environment/pins.txt"
fi
