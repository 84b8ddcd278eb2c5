//! Where a reset goes: pure.

use jangbu_client::Position;

use crate::cli::group::ResetArgs;

/// Where offsets are to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// A place that the brokers look up.
    Position(Position),
    /// This offset.
    Offset(i64),
    /// So far from what is committed.
    Shift(i64),
}

/// What a partition holds: `[earliest, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) earliest: i64,
    pub(super) end: i64,
}

impl Aim {
    /// What the command line says; `now` is in milliseconds since 1970.
    pub(super) fn of(args: &ResetArgs, now: i64) -> Self {
        let ago = |ms: u64| Position::Timestamp(now.saturating_sub_unsigned(ms).max(0));
        match (args.to_offset, args.shift_by, args.to_datetime, args.by_duration) {
            (Some(offset), ..) => Self::Offset(offset),
            (_, Some(records), ..) => Self::Shift(records),
            (_, _, Some(time), _) => Self::Position(Position::Timestamp(time.0)),
            (.., Some(ms)) => Self::Position(ago(ms)),
            _ if args.to_current => Self::Shift(0),
            _ if args.to_earliest => Self::Position(Position::Earliest),
            _ => Self::Position(Position::Latest),
        }
    }

    /// The offset to commit. `found` is that of the position, if this is one; `None` when nothing is committed that could
    /// be shifted.
    pub(super) fn offset(self, committed: Option<i64>, found: i64, extent: Extent) -> Option<i64> {
        let wanted = match self {
            Self::Position(_) => found,
            Self::Offset(offset) => offset,
            Self::Shift(records) => committed?.saturating_add(records),
        };
        Some(wanted.min(extent.end).max(extent.earliest))
    }
}

#[cfg(test)]
mod tests {
    use super::{Aim, Extent};
    use jangbu_client::Position;

    const EXTENT: Extent = Extent { earliest: 10, end: 20 };

    #[test]
    fn an_offset_outside_of_what_is_there_becomes_the_nearer_end() {
        let cases = [(0, 10), (10, 10), (15, 15), (20, 20), (21, 20), (i64::MAX, 20)];
        for (wanted, expected) in cases {
            assert_eq!(Aim::Offset(wanted).offset(None, 0, EXTENT), Some(expected), "{wanted}");
        }
    }

    #[test]
    fn a_shift_counts_from_what_is_committed_and_needs_it() {
        let cases = [(-3, 12), (3, 18), (-100, 10), (100, 20), (0, 15), (i64::MIN, 10)];
        for (by, expected) in cases {
            assert_eq!(Aim::Shift(by).offset(Some(15), 0, EXTENT), Some(expected), "{by}");
        }
        assert_eq!(Aim::Shift(1).offset(None, 0, EXTENT), None);
    }

    #[test]
    fn a_position_is_what_the_brokers_found() {
        let aim = Aim::Position(Position::Timestamp(5));
        assert_eq!(aim.offset(Some(11), 13, EXTENT), Some(13));
    }
}
