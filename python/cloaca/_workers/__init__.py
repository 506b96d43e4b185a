"""The Python threads of a runner: they run tasks and call triggers' functions."""
