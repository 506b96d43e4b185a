"""The parts of `cloaca.testing`: a virtual clock, crashes at commit points, single tasks."""
