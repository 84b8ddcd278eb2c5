//! Micro benchmarks of the engine (`benches/`), and the harness that measures it beside other brokers (`side-by-side/`).
//!
//! Nothing is shared between them: the first run in this process, the second starts brokers.
