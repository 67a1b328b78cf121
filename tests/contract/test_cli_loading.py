"""What a command of the command line loads: its own file, and of other commands nothing."""

import subprocess
import sys


def test_the_help_and_a_command_load_the_file_of_no_other_command() -> None:
    code = (
        "import sys; from modelway.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print(sorted(name for name in sys.modules if name.startswith('modelway.')))"
    )
    for words, file in (["--help"], "[]"), (["lint", "--help"], "lint"):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
        loaded = done.stdout.splitlines()[-1]
        assert "modelway.cli.demo" not in loaded
        assert ("modelway.cli.lint" in loaded) == (file == "lint")
        assert "psutil" not in loaded
