//! Request frames: a 4-byte length and that many bytes.
//!
//! Invariants:
//! - Nothing is allocated for a frame whose length is refused.
//! - [`FrameReader::next_length`] and [`FrameReader::body`] can be dropped at any await and called again; no byte is lost.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes read ahead at most when a frame is small.
const READ_AHEAD_BYTES: usize = 16 << 10;
/// API key, version and correlation id.
const FRAME_BYTES_MIN: usize = 8;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The length is one that no request has.
    #[error("a frame claims {length} bytes, allowed are {FRAME_BYTES_MIN} to {max}")]
    Length { length: i64, max: usize },
    /// The peer went away in the middle of a frame.
    #[error("the connection ended inside a frame")]
    Truncated,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Cuts a stream into frames.
#[derive(Debug)]
pub(crate) struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
    /// Length of the frame whose body is being read.
    expected: Option<usize>,
    bytes_max: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(stream: R, bytes_max: usize) -> Self {
        Self { stream, buffer: BytesMut::new(), expected: None, bytes_max }
    }

    /// The length of the next frame; `None` at the end of the stream.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Truncated`], [`Error::Io`].
    pub(crate) async fn next_length(&mut self) -> Result<Option<usize>, Error> {
        if let Some(length) = self.expected {
            return Ok(Some(length));
        }
        while self.buffer.len() < 4 {
            self.buffer.reserve(READ_AHEAD_BYTES);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(Error::Truncated) };
            }
        }
        let length = i64::from(self.buffer.get_i32());
        match usize::try_from(length) {
            Ok(bytes) if (FRAME_BYTES_MIN..=self.bytes_max).contains(&bytes) => {
                self.expected = Some(bytes);
                Ok(Some(bytes))
            }
            _ => Err(Error::Length { length, max: self.bytes_max }),
        }
    }

    /// The body of the frame whose length [`FrameReader::next_length`] gave.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Io`].
    pub(crate) async fn body(&mut self) -> Result<Bytes, Error> {
        let length = self.expected.unwrap_or_default();
        while self.buffer.len() < length {
            self.buffer.reserve(length - self.buffer.len());
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(Error::Truncated);
            }
        }
        self.expected = None;
        let body = self.buffer.split_to(length).freeze();
        if self.buffer.is_empty() {
            // An idle connection keeps no buffer.
            self.buffer = BytesMut::new();
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn frames(bytes: &[u8]) -> (Vec<Bytes>, Option<Error>) {
        let mut reader = FrameReader::new(bytes, 1 << 20);
        let mut frames = Vec::new();
        loop {
            match reader.next_length().await {
                Ok(None) => return (frames, None),
                Ok(Some(_)) => match reader.body().await {
                    Ok(body) => frames.push(body),
                    Err(error) => return (frames, Some(error)),
                },
                Err(error) => return (frames, Some(error)),
            }
        }
    }

    #[tokio::test]
    async fn pipelined_frames_are_cut_apart() {
        let stream = b"\0\0\0\x08aaaaaaaa\0\0\0\x09bbbbbbbbb";
        let (frames, error) = frames(stream).await;
        assert_eq!(frames, [&b"aaaaaaaa"[..], &b"bbbbbbbbb"[..]]);
        assert!(error.is_none());
    }

    #[tokio::test]
    async fn impossible_lengths_are_refused_before_reading_on() {
        for claim in [0_i32, 7, -1, i32::MIN, i32::MAX, (1 << 20) + 1] {
            let (frames, error) = frames(&claim.to_be_bytes()).await;
            assert!(frames.is_empty());
            assert!(matches!(error, Some(Error::Length { .. })), "claimed {claim}");
        }
    }

    #[tokio::test]
    async fn a_stream_that_ends_inside_a_frame_is_truncated() {
        for bytes in [&b"\0\0"[..], &b"\0\0\0\x08aaa"[..]] {
            let (_, error) = frames(bytes).await;
            assert!(matches!(error, Some(Error::Truncated)));
        }
    }
}
