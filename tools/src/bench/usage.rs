//! What a process on this machine has used, from `/proc` (proc(5)).

use std::fmt::Display;

use anyhow::Context;

/// CPU time is told in these, 100 a second on every Linux (`CONFIG_HZ` does not change `USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// A process until now.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Seconds of CPU, in user space and in the kernel.
    pub cpu_s: f64,
    /// Bytes that it had the kernel write to disks; 0 if that may not be read.
    pub written: f64,
    /// Resident memory now, in bytes.
    pub resident: u64,
}

impl Usage {
    /// A process by id, or `self`.
    pub(crate) fn of(process: impl Display) -> anyhow::Result<Self> {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}"));
        let stat = read("stat").with_context(|| format!("looking at process {process}"))?;
        // The command's name may hold spaces; fields count from what follows it.
        let fields: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: f64 =
            fields.iter().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        let written = read("io").ok().and_then(|io| field(&io, "write_bytes:"));
        let resident = read("status").ok().and_then(|status| field(&status, "VmRSS:"));
        Ok(Self {
            cpu_s: ticks / TICKS_PER_SECOND,
            written: written.unwrap_or(0.0),
            resident: resident.map_or(0, |kib: u64| kib << 10),
        })
    }

    /// What was used since an earlier look.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            cpu_s: self.cpu_s - earlier.cpu_s,
            written: self.written - earlier.written,
            resident: self.resident,
        }
    }
}

fn field<T: std::str::FromStr>(text: &str, name: &str) -> Option<T> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::Usage;

    #[test]
    fn this_process_has_used_something_and_one_that_is_not_there_is_named() {
        let usage = Usage::of("self").unwrap();
        assert!(usage.resident > 1 << 20, "{usage:?}");
        assert!(Usage::of(0).unwrap_err().to_string().contains("process 0"));
    }
}
