//! Identifiers and positions, as newtypes so that they cannot be mixed up.

use std::fmt;

macro_rules! position {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

position! {
    /// One log of this node. Given out by the controller and never reused; 0 is the metadata log.
    PartitionId(u32)
}
position! {
    /// A Raft log index: contiguous within a partition, counts every entry.
    Index(u64)
}
position! {
    /// A Raft term. It is also the Kafka leader epoch of the batches proposed in it.
    Term(u64)
}
position! {
    /// A Kafka record offset. Entries that are not record batches take none.
    Offset(i64)
}
