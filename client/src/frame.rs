//! Frames of the Kafka protocol: four bytes of length, big endian, then that many bytes.
//!
//! Invariant: memory grows with the bytes that have arrived, never with the length a frame claims.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::{Error, Result};

/// Memory set aside before the first byte of a frame has arrived.
const FIRST_BYTES: usize = 64 << 10;

/// The body length that a frame's first four bytes claim.
///
/// # Errors
/// [`Error::Malformed`] if it is negative, shorter than a correlation id, or above `max`.
fn body_bytes(prefix: [u8; 4], max: usize) -> Result<usize> {
    let claimed = i32::from_be_bytes(prefix);
    match usize::try_from(claimed) {
        Ok(bytes) if (4..=max).contains(&bytes) => Ok(bytes),
        _ => {
            let reason = format!("its length is {claimed}, outside 4 to {max} bytes");
            Err(Error::malformed("a response frame", reason))
        }
    }
}

/// Reads one frame's body, or `None` if the stream ends between frames.
pub(crate) async fn read<R: AsyncRead + Unpin>(from: &mut R, max: usize) -> Result<Option<Bytes>> {
    let mut prefix = [0; 4];
    let first = from.read(&mut prefix).await.map_err(lost)?;
    if first == 0 {
        return Ok(None);
    }
    from.read_exact(&mut prefix[first..]).await.map_err(lost)?;
    let wanted = body_bytes(prefix, max)?;
    let mut body = BytesMut::with_capacity(wanted.min(FIRST_BYTES));
    let mut rest = from.take(wanted as u64);
    while body.len() < wanted {
        if body.capacity() == body.len() {
            body.reserve((wanted - body.len()).min(body.len().max(FIRST_BYTES)));
        }
        if rest.read_buf(&mut body).await.map_err(lost)? == 0 {
            let reason = format!("it ends after {} of {wanted} bytes", body.len());
            return Err(Error::malformed("a response frame", reason));
        }
    }
    Ok(Some(body.freeze()))
}

fn lost(error: std::io::Error) -> Error {
    Error::malformed("a response frame", error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::read;
    use crate::Result;

    fn read_all(mut bytes: &[u8], max: usize) -> Result<Vec<Vec<u8>>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut frames = Vec::new();
            while let Some(frame) = read(&mut bytes, max).await? {
                frames.push(frame.to_vec());
            }
            Ok(frames)
        })
    }

    #[test]
    fn a_frame_that_claims_more_than_allowed_is_refused_before_its_bytes_arrive() {
        let error = read_all(&i32::MAX.to_be_bytes(), 1 << 20).unwrap_err();
        assert!(error.to_string().contains("its length is 2147483647"), "{error}");
        assert!(read_all(&(-1_i32).to_be_bytes(), 1 << 20).is_err());
    }

    #[test]
    fn a_frame_cut_short_tells_how_far_it_came() {
        let error = read_all(&[0, 0, 0, 8, 1, 2, 3], 100).unwrap_err();
        assert!(error.to_string().contains("3 of 8 bytes"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_give_frames_or_an_error_but_never_a_panic(bytes: Vec<u8>) {
            let _ = read_all(&bytes, 1 << 20);
        }

        #[test]
        fn frames_come_out_as_they_went_in(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 4..300_000), 0..4)
        ) {
            let mut stream = Vec::new();
            for body in &bodies {
                stream.extend_from_slice(&i32::try_from(body.len()).unwrap().to_be_bytes());
                stream.extend_from_slice(body);
            }
            assert_eq!(read_all(&stream, 1 << 20).unwrap(), bodies);
        }
    }
}
