//! Turns an error into what a user needs: what happened, what to do next, and an exit code.

use std::process::ExitCode;

use jangbu_client::{Error, ErrorCode};

use crate::output;
use crate::produce::BadRow;

/// A broker refused, or something failed.
const FAILED: u8 = 1;
/// No broker answers.
const UNREACHABLE: u8 = 3;
/// The input has a bad row.
const BAD_INPUT: u8 = 4;

/// Prints the error and returns the exit code. A closed standard output is no error: whoever read
/// it, `head` for instance, has had enough.
pub(crate) fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    if is_closed_output(error) {
        return ExitCode::SUCCESS;
    }
    output::error(&format!("{error:#}"), hint(error), json);
    ExitCode::from(code(error))
}

fn is_closed_output(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}

fn client_error(error: &anyhow::Error) -> Option<&Error> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

fn code(error: &anyhow::Error) -> u8 {
    if error.chain().any(|cause| cause.is::<BadRow>()) {
        return BAD_INPUT;
    }
    match client_error(error) {
        Some(Error::Unreachable { .. }) => UNREACHABLE,
        _ => FAILED,
    }
}

/// What to do next, where that is known.
fn hint(error: &anyhow::Error) -> Option<&'static str> {
    match client_error(error)? {
        Error::Unreachable { .. } => {
            Some("start a node with `jangbu serve`, or name a running one with --brokers HOST:PORT")
        }
        Error::UnknownTopic { .. } => {
            Some("`jangbu topic list` shows all topics, `jangbu topic create NAME` makes one")
        }
        Error::OffsetOutOfRange { .. } => {
            Some("`jangbu topic describe NAME` shows the offsets there are")
        }
        Error::Malformed { .. } => {
            Some("check that the address is that of a Kafka listener, not of an HTTP port")
        }
        Error::Undelivered { .. } => {
            Some("see whether the broker runs; its log tells why it does not acknowledge")
        }
        Error::Unsupported { api: "GetKeys", .. } => Some(
            "only jangbu has an index of keys; elsewhere read the topic, for instance with `jangbu consume`",
        ),
        Error::RecordTooLarge { .. } => Some("split it, or keep large values elsewhere"),
        Error::Broker { code: ErrorCode::MessageTooLarge, .. } => {
            Some("the topic's max.message.bytes is smaller than a batch; raise it for this topic")
        }
        Error::Broker { code: ErrorCode::TopicAlreadyExists, .. } => {
            Some("choose another name, or delete it first with `jangbu topic delete NAME`")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{code, hint};

    #[test]
    fn an_unreachable_broker_tells_how_to_start_one() {
        let error =
            jangbu_client::Error::Unreachable { brokers: "a:1".into(), reason: "refused".into() };
        let error = anyhow::Error::from(error).context("listing topics");
        assert_eq!(code(&error), 3);
        assert!(hint(&error).unwrap().contains("jangbu serve"));
    }
}
