//! Micro benchmarks of the engine, and the side-by-side harness against other brokers.
