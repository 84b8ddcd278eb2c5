//! What kind of simulation a seed makes.

use std::ops::Range;

use super::random::Random;
use crate::consensus::Clock;

/// How a simulation differs from others, beside what happens in it.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Nodes 1 to so many; the first `voters` of them begin as the group.
    pub(super) nodes: i32,
    pub(super) voters: i32,
    pub(super) clock: Clock,
    /// How long a message takes, and a sync, in ms.
    pub(super) delay_ms: Range<u64>,
    pub(super) sync_ms: Range<u64>,
    /// Of a thousand requests, so many get lost.
    pub(super) lost: u64,
    /// Of a thousand requests, so many arrive only after they were given up.
    pub(super) late: u64,
    /// Of a thousand requests, so many arrive once more.
    pub(super) twice: u64,
    pub(super) producers: i64,
    /// How long producers and readers pause, in ms.
    pub(super) pause_ms: Range<u64>,
    /// How many things happen to the nodes, and how long after one another, in ms.
    pub(super) incidents: u32,
    pub(super) quiet_ms: Range<u64>,
}

impl Plan {
    /// Draws one.
    pub(super) fn draw(random: &mut Random) -> Self {
        // A group of one falls asleep and wakes.
        let voters = match random.within(0..10) {
            0 => 1,
            1..=2 => 5,
            _ => 3,
        };
        let clock = if random.chance(500) { Clock::Own } else { Clock::Node };
        let trouble = random.chance(600);
        Self {
            nodes: voters + 2,
            voters,
            clock,
            delay_ms: 1..random.within(2..30),
            sync_ms: 1..random.within(2..40),
            lost: if trouble { random.within(0..40) } else { 0 },
            late: if trouble { random.within(0..40) } else { 0 },
            twice: if trouble { random.within(0..40) } else { 0 },
            producers: 4,
            pause_ms: 5..random.within(20..150),
            incidents: 60,
            quiet_ms: 10..random.within(60..250),
        }
    }
}
