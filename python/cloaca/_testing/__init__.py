"""The parts of `cloaca.testing`: a virtual clock, crash tests, and running single tasks."""
