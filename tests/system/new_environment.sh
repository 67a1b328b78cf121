# Sourced by the scripts that make an environment of its own, with $name and $what: goes to the repository and removes
# an older .venv-$name, or ends the script where the one that is there is made of $wanted.
cd "$(dirname "$0")/../.."
wanted=tests/system/requirements-$name.txt
cmp -s "$wanted" ".venv-$name/.installed" && exit 0
# Two that start at once: the second waits, and finds it made.
exec 9>".venv-$name.lock"
flock 9
cmp -s "$wanted" ".venv-$name/.installed" && exit 0
echo "installing $what into .venv-$name"
rm -rf ".venv-$name"

# Install what $wanted names, and what that needs: uv takes a tenth of pip's CPU time, but does not look everywhere
# where pip does.
install_wanted() {
    "${PYTHON:-python3.11}" -m venv ".venv-$name"
    .venv/bin/python -m uv pip install --quiet --python ".venv-$name/bin/python" -r "$wanted" 2>/dev/null ||
        ".venv-$name/bin/pip" install --quiet --disable-pip-version-check -r "$wanted"
    cp "$wanted" ".venv-$name/.installed"
}
