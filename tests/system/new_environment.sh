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
