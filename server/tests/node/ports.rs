//! Addresses for nodes that have to know each other's before they run.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range that Linux gives to outgoing connections (from 32768 on): nothing else takes one of these while its
/// node is not there yet, or is being started again.
const FIRST: u16 = 20000;
const COUNT: u16 = 12000;

/// Addresses of loopback on which nobody listens, each given once by this process.
pub(crate) fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    // Processes that run side by side begin in different places.
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let begin = std::process::id().wrapping_mul(131) % u32::from(COUNT);
    [(); N].map(|()| {
        (0..COUNT)
            .find_map(|_| {
                let at =
                    (begin + u32::from(GIVEN.fetch_add(1, Ordering::Relaxed))) % u32::from(COUNT);
                let address =
                    SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + u16::try_from(at).unwrap()));
                TcpListener::bind(address).is_ok().then_some(address)
            })
            .unwrap()
    })
}
