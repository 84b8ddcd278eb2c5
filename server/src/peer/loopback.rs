//! Requests and replies without a connection, for simulations: through the bytes of their frames all the same.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::answers::{Answers, Bounds, Reply};
use super::frame::{self, Reader};
use super::writer::Source;
use super::{Request, Response};

/// A request as it arrives when it is sent.
///
/// # Errors
/// Why it cannot be sent or would not be taken.
pub(crate) fn arrive(
    request: Request,
    payloads: Vec<Bytes>,
) -> Result<(Request, Vec<Bytes>), String> {
    let frame = frame::encode_request(1, request, payloads)?;
    let mut bytes = BytesMut::with_capacity(frame.bytes());
    frame.into_chunks().for_each(|chunk| bytes.extend_from_slice(&chunk));
    let body = bytes.split_off(4).freeze();
    let (_, request, payloads) = frame::decode_request(body).map_err(|error| error.to_string())?;
    Ok((request.ok_or("no request at all")?, payloads))
}

/// What is answered to one request.
pub(crate) struct Answered(Arc<Answers>);

/// A reply, and what is answered with it.
pub(crate) async fn reply() -> (Reply, Answered) {
    let answers = Answers::new(Bounds { requests: 1, bytes: 1 });
    let reply = answers.make_room(1).await.reply(1);
    (reply, Answered(answers))
}

impl Answered {
    /// Waits for it.
    pub(crate) async fn get(self) -> Result<Response, String> {
        let mut chunks = VecDeque::new();
        loop {
            self.0.take(&mut chunks);
            if !chunks.is_empty() {
                break;
            }
            self.0.changed().notified().await;
        }
        let bytes: Vec<u8> = chunks.iter().flatten().copied().collect();
        let answer = Reader::new(&bytes[..], frame::FRAME_BYTES_MAX).response().await;
        let (_, answer) = answer.map_err(|error| error.to_string())?.ok_or("no answer at all")?;
        answer
    }
}
