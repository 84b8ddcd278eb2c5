//! Writes frames to a connection: everything that has queued up, with as few system calls as it can.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

use super::frame::Frame;

/// Pieces of one system call.
const SLICES_MAX: usize = 256;

/// Where frames to be written come from.
pub(super) trait Source {
    /// Moves what may be written now to the end of `chunks`.
    fn take(&self, chunks: &mut VecDeque<Bytes>);
    /// All that was taken has been written.
    fn written(&self);
    /// Told when [`Source::take`] may give more.
    fn changed(&self) -> &Notify;
}

/// Writes until the connection fails; why it did.
pub(super) async fn run(output: &OwnedWriteHalf, source: &impl Source) -> io::Error {
    let mut chunks = VecDeque::new();
    loop {
        source.take(&mut chunks);
        if chunks.is_empty() {
            source.changed().notified().await;
            continue;
        }
        if let Err(error) = write(output, &mut chunks).await {
            return error;
        }
        source.written();
    }
}

/// Writes one frame.
///
/// # Errors
/// The socket's.
pub(super) async fn write_frame(output: &OwnedWriteHalf, frame: Frame) -> io::Result<()> {
    write(output, &mut frame.into_chunks().collect()).await
}

async fn write(output: &OwnedWriteHalf, chunks: &mut VecDeque<Bytes>) -> io::Result<()> {
    while !chunks.is_empty() {
        output.writable().await?;
        match step(output, chunks) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => done?,
        }
        tokio::task::consume_budget().await;
    }
    Ok(())
}

/// One system call.
fn step(output: &OwnedWriteHalf, chunks: &mut VecDeque<Bytes>) -> io::Result<()> {
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let mut count = 0;
    for (slice, chunk) in slices.iter_mut().zip(chunks.iter()) {
        *slice = IoSlice::new(chunk);
        count += 1;
    }
    let mut written = output.try_write_vectored(&slices[..count])?;
    if written == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    while let Some(first) = chunks.front_mut() {
        let step = written.min(first.len());
        first.advance(step);
        written -= step;
        if !first.is_empty() {
            break;
        }
        chunks.pop_front();
    }
    Ok(())
}
