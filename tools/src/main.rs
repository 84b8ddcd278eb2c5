//! The `jangbu` binary.
fn main() {}
