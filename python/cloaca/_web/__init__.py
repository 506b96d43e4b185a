"""The parts of `cloaca.web`: permissions, the adapters, and the server on a port."""
