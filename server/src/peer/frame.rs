//! The frames between nodes.
//!
//! ```text
//!  0         4         8         12         12 + m
//!  | length  | crc32c  | m       | message  | payloads, back to back |
//! ```
//!
//! `length` counts what follows it, `crc32c` covers what follows that; all three numbers are big-endian. Only requests
//! that append entries or stage batches have payloads, as long as they say.
//!
//! Invariants:
//! - A length is checked before anything is allocated, and a buffer grows only with the bytes that have arrived.
//! - Payloads are neither copied when they are sent nor when they are received.

#[cfg(test)]
mod tests;

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::elements::{self, ELEMENTS_MAX};
use crate::proto::peer::{Append, Request, Response, Stage, request, response};

/// A whole frame.
pub(super) const FRAME_BYTES_MAX: usize = 64 << 20;
/// A whole frame of a handshake.
pub(super) const HANDSHAKE_BYTES_MAX: usize = 4 << 10;

const LENGTH_BYTES: usize = 4;
/// Checksum and length of the message.
const HEAD_BYTES: usize = 8;
/// Bytes read ahead at most when a frame is small.
const READ_AHEAD_BYTES: usize = 16 << 10;
/// Room made for bytes that have not arrived; beyond it, as many as have.
const GROW_BYTES: usize = 1 << 20;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The other node went away; nothing is wrong with what it said.
    #[error("the connection was lost: {0}")]
    Lost(#[from] io::Error),
    /// What it said is no frame of this protocol.
    #[error("bytes that are no frame: {0}")]
    Malformed(String),
}

impl Error {
    fn malformed(reason: impl ToString) -> Self {
        Self::Malformed(reason.to_string())
    }
}

/// A frame to be sent.
#[derive(Debug)]
pub(super) struct Frame {
    /// All but the payloads.
    head: Bytes,
    payloads: Vec<Bytes>,
    bytes: usize,
}

impl Frame {
    /// Its length on the wire.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The pieces to be written, none of them empty.
    pub(super) fn into_chunks(self) -> impl Iterator<Item = Bytes> {
        let payloads = self.payloads.into_iter().filter(|payload| !payload.is_empty());
        std::iter::once(self.head).chain(payloads)
    }
}

/// A message as a frame.
///
/// # Errors
/// Why no frame can hold it.
pub(super) fn encode(message: &impl Message, payloads: Vec<Bytes>) -> Result<Frame, String> {
    let message_bytes = message.encoded_len();
    let payload_bytes = payloads.iter().fold(0, |sum: usize, one| sum.saturating_add(one.len()));
    let bytes = (LENGTH_BYTES + HEAD_BYTES + message_bytes).saturating_add(payload_bytes);
    let number = |bytes| {
        let number = u32::try_from(bytes).ok().filter(|_| bytes <= FRAME_BYTES_MAX);
        number.ok_or_else(|| format!("a frame of {bytes} bytes is larger than {FRAME_BYTES_MAX}"))
    };
    let length = number(bytes)? - 4;
    let mut head = BytesMut::with_capacity(LENGTH_BYTES + HEAD_BYTES + message_bytes);
    head.put_u32(length);
    head.put_u32(0);
    head.put_u32(number(message_bytes)?);
    message.encode(&mut head).map_err(|error| error.to_string())?;
    let mut checksum = crc32c::crc32c(&head[LENGTH_BYTES + 4..]);
    for payload in &payloads {
        checksum = crc32c::crc32c_append(checksum, payload);
    }
    head[LENGTH_BYTES..LENGTH_BYTES + 4].copy_from_slice(&checksum.to_be_bytes());
    Ok(Frame { head: head.freeze(), payloads, bytes })
}

/// A request as a frame.
///
/// # Errors
/// Why the other node would not take it.
pub(super) fn encode_request(
    sequence: u64,
    body: request::Body,
    payloads: Vec<Bytes>,
) -> Result<Frame, String> {
    let (entries, elements) = match &body {
        request::Body::Append(append) => (append.entries.as_slice(), append.entries.len()),
        request::Body::Heartbeats(all) if has_entries(&all.appends) => {
            return Err("entries are sent with an append and not with heartbeats".to_owned());
        }
        request::Body::Heartbeats(all) => (&[][..], all.appends.len()),
        _ => (&[][..], 0),
    };
    if elements > ELEMENTS_MAX {
        return Err(format!("{elements} elements are more than {ELEMENTS_MAX}: send it in parts"));
    }
    let lengths = entries.iter().map(|entry| entry.payload_bytes as usize);
    let fits = match &body {
        request::Body::Stage(stage) => {
            payloads.iter().map(|payload| payload.len() as u64).sum::<u64>()
                == u64::from(stage.payload_bytes)
        }
        _ => lengths.eq(payloads.iter().map(Bytes::len)),
    };
    if !fits {
        return Err("its payloads are not those of its entries".to_owned());
    }
    encode(&Request { sequence, body: Some(body) }, payloads)
}

/// Cuts a stream into frames.
#[derive(Debug)]
pub(super) struct Reader<R> {
    stream: R,
    buffer: BytesMut,
    bytes_max: usize,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// `bytes_max` is that of a whole frame.
    pub(super) fn new(stream: R, bytes_max: usize) -> Self {
        Self { stream, buffer: BytesMut::new(), bytes_max }
    }

    /// Another bound for the frames that follow.
    pub(super) fn with_bytes_max(mut self, bytes_max: usize) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    /// The length of the next frame's body, for [`Reader::body`]; `None` at the end of the stream.
    ///
    /// # Errors
    /// [`Error`]
    pub(super) async fn next_length(&mut self) -> Result<Option<usize>, Error> {
        while self.buffer.len() < LENGTH_BYTES {
            self.buffer.reserve(READ_AHEAD_BYTES);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(ended()) };
            }
        }
        let length = self.buffer.get_u32() as usize;
        if (HEAD_BYTES..=self.bytes_max - LENGTH_BYTES).contains(&length) {
            return Ok(Some(length));
        }
        let reason = format!("a frame of {length} bytes, allowed are up to {}", self.bytes_max);
        Err(Error::Malformed(reason))
    }

    /// The body of the frame whose length [`Reader::next_length`] has just given.
    ///
    /// # Errors
    /// [`Error`]
    pub(super) async fn body(&mut self, length: usize) -> Result<Bytes, Error> {
        let missing = length.saturating_sub(self.buffer.len());
        self.buffer.reserve(missing.min(GROW_BYTES));
        while self.buffer.len() < length {
            if self.buffer.len() == self.buffer.capacity() {
                let missing = length - self.buffer.len();
                self.buffer.reserve(missing.min(self.buffer.len().max(GROW_BYTES)));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(ended());
            }
        }
        let body = self.buffer.split_to(length).freeze();
        if self.buffer.is_empty() {
            // An idle connection keeps no buffer.
            self.buffer = BytesMut::new();
        }
        Ok(body)
    }

    /// The next frame's message, which must have no payloads; `None` at the end of the stream.
    ///
    /// # Errors
    /// [`Error`]
    pub(super) async fn message<M: Message + Default>(&mut self) -> Result<Option<M>, Error> {
        let Some(length) = self.next_length().await? else { return Ok(None) };
        decode(self.body(length).await?, &[]).map(Some)
    }

    /// The next frame's response; `None` at the end of the stream.
    ///
    /// # Errors
    /// [`Error`]
    pub(super) async fn response(&mut self) -> Result<Option<(u64, Answer)>, Error> {
        let Some(length) = self.next_length().await? else { return Ok(None) };
        decode_response(self.body(length).await?).map(Some)
    }
}

fn ended() -> Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it ended inside a frame").into()
}

/// What a response says: its body, or why the request was not carried out.
pub(super) type Answer = Result<response::Body, String>;

fn decode_response(body: Bytes) -> Result<(u64, Answer), Error> {
    let response: Response = decode(body, elements::OF_RESPONSE)?;
    let answer = match response.body {
        _ if !response.error.is_empty() => Err(response.error),
        Some(body) => Ok(body),
        None => Err("its answer is none that this version knows".to_owned()),
    };
    Ok((response.sequence, answer))
}

/// A request's sequence, body and payloads. A body that this version does not know is `None`.
///
/// # Errors
/// [`Error::Malformed`]
pub(super) fn decode_request(
    body: Bytes,
) -> Result<(u64, Option<request::Body>, Vec<Bytes>), Error> {
    let (message, payloads) = open(body)?;
    let request: Request = decode_message(message, elements::OF_REQUEST)?;
    let payloads = match &request.body {
        Some(request::Body::Append(append)) => cut(append, payloads)?,
        Some(request::Body::Stage(stage)) => whole(stage, payloads)?,
        Some(request::Body::Heartbeats(all)) if has_entries(&all.appends) => {
            return Err(Error::malformed("entries in heartbeats"));
        }
        _ if payloads.is_empty() => Vec::new(),
        _ => return Err(Error::malformed("payloads that belong to no entry")),
    };
    Ok((request.sequence, request.body, payloads))
}

fn has_entries(appends: &[Append]) -> bool {
    appends.iter().any(|append| !append.entries.is_empty())
}

/// The payloads of an append's entries.
fn cut(append: &Append, mut payloads: Bytes) -> Result<Vec<Bytes>, Error> {
    let claimed: u64 = append.entries.iter().map(|entry| u64::from(entry.payload_bytes)).sum();
    if claimed != payloads.len() as u64 {
        let reason = format!("{} bytes of payloads, its entries say {claimed}", payloads.len());
        return Err(Error::Malformed(reason));
    }
    let entries = append.entries.iter();
    Ok(entries.map(|entry| payloads.split_to(entry.payload_bytes as usize)).collect())
}

/// The batches that are staged, in one piece.
fn whole(stage: &Stage, payloads: Bytes) -> Result<Vec<Bytes>, Error> {
    if stage.payload_bytes as usize == payloads.len() {
        return Ok(vec![payloads]);
    }
    let claimed = stage.payload_bytes;
    Err(Error::Malformed(format!("{} bytes of batches, it says {claimed}", payloads.len())))
}

fn decode<M: Message + Default>(body: Bytes, repeated: &[&[u32]]) -> Result<M, Error> {
    let (message, payloads) = open(body)?;
    if !payloads.is_empty() {
        return Err(Error::malformed("payloads that belong to no entry"));
    }
    decode_message(message, repeated)
}

fn decode_message<M: Message + Default>(message: Bytes, repeated: &[&[u32]]) -> Result<M, Error> {
    if !elements::bounded(&message, repeated) {
        return Err(Error::malformed("a message with too many elements, or none at all"));
    }
    M::decode(message).map_err(Error::malformed)
}

/// The message and the payloads of a frame's body, if the checksum fits.
fn open(mut body: Bytes) -> Result<(Bytes, Bytes), Error> {
    if body.len() < HEAD_BYTES {
        return Err(Error::malformed("a body without a head"));
    }
    let checksum = body.get_u32();
    if crc32c::crc32c(&body) != checksum {
        return Err(Error::malformed("its checksum is another"));
    }
    let message_bytes = body.get_u32() as usize;
    if message_bytes > body.len() {
        return Err(Error::malformed("a message longer than its frame"));
    }
    let message = body.split_to(message_bytes);
    Ok((message, body))
}
