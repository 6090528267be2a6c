"""Mutated input for every reader of files: `make fuzz N=1000000`, or `PYTHONPATH=tests python -m fuzz --help`.

Each target is run in child processes on inputs from up to three generators (mutation, hypothesis, atheris). It may
return or raise EdgeclipError. Anything else is a finding, and its input is kept: another exception, the death of the
process, an input that takes too long, a write outside the state directory, a connection, another program started.
"""
