"""Real servers on the loopback interface, with faults to switch on. For tests and benchmarks."""
