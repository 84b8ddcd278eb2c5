//! What the system says of this process, under the names that all Prometheus clients use.
//!
//! Linux tells it in `/proc`; elsewhere everything is 0.

use std::fs;

/// Ticks a second of the times in `/proc/self/stat`; Linux has told user space 100 for ever.
const TICKS: u64 = 100;
const PAGE_BYTES: u64 = 4096;

/// What the system says of this process.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Process {
    /// User and system time, in nanoseconds.
    pub(super) cpu_nanos: u64,
    pub(super) resident_bytes: u64,
    pub(super) virtual_bytes: u64,
    pub(super) open_fds: u64,
    /// Since the epoch, in nanoseconds.
    pub(super) start_nanos: u64,
}

impl Process {
    /// Asks the system.
    pub(super) fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name of the process stands in brackets and may hold anything.
        let fields: Vec<u64> = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        let field = |at: usize| fields.get(at).copied().unwrap_or(0);
        let system = fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = system.lines().find_map(|line| line.strip_prefix("btime "));
        let boot_s: u64 = boot.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        Self {
            cpu_nanos: (field(11) + field(12)) * (1_000_000_000 / TICKS),
            resident_bytes: field(21) * PAGE_BYTES,
            virtual_bytes: field(20),
            open_fds: fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
            start_nanos: boot_s * 1_000_000_000 + field(19) * (1_000_000_000 / TICKS),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::Process;

    #[test]
    fn the_process_has_memory_files_and_a_start() {
        let process = Process::read();
        assert!(process.resident_bytes > 100_000 && process.virtual_bytes > process.resident_bytes);
        assert!(process.open_fds >= 3, "standard input, output and error");
        assert!(process.start_nanos > 1_600_000_000_000_000_000, "later than 2020");
    }
}
