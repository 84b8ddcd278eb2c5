//! The way of a batch through its queue, step by step.
