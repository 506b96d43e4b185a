"""What `cloaca.testing` offers: a virtual clock, crashes at commit points, single tasks."""
