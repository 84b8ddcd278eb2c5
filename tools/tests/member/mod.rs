//! A member of a classic consumer group in plain requests: joins alone, is given partitions, leaves.

use std::io::{Read, Write};
use std::net::TcpStream;

const JOIN_GROUP: i16 = 11;
const LEAVE_GROUP: i16 = 13;
const SYNC_GROUP: i16 = 14;

/// The sole member of a group.
pub(crate) struct Member {
    stream: TcpStream,
    group: String,
    id: String,
}

impl Member {
    /// Joins `group`, which must exist, and is given these partitions of `topic`.
    pub(crate) fn join(broker: &str, group: &str, topic: &str, partitions: &[i32]) -> Self {
        let stream = TcpStream::connect(broker).unwrap();
        let mut member = Self { stream, group: group.to_owned(), id: String::new() };
        let joined = member.call(
            JOIN_GROUP,
            &[
                text(group),
                60_000_i32.to_be_bytes().to_vec(),
                text(""),
                text("consumer"),
                1_i32.to_be_bytes().to_vec(),
                text("range"),
                bytes(b"\0\0\0\0\0\0\0\0\0\0"),
            ]
            .concat(),
        );
        let (code, rest) = joined.split_at(2);
        assert_eq!(code, [0, 0], "JoinGroup is refused");
        let (generation, rest) = rest.split_at(4);
        let (_protocol, rest) = read_text(rest);
        let (leader, rest) = read_text(rest);
        let (id, _) = read_text(rest);
        assert_eq!(leader, id, "it is alone");
        member.id = id;
        let numbers: Vec<u8> = partitions.iter().flat_map(|number| number.to_be_bytes()).collect();
        let count = i32::try_from(partitions.len()).unwrap().to_be_bytes().to_vec();
        let assignment =
            [vec![0, 0], 1_i32.to_be_bytes().to_vec(), text(topic), count, numbers, vec![255; 4]]
                .concat();
        let synced = member.call(
            SYNC_GROUP,
            &[
                text(group),
                generation.to_vec(),
                text(&member.id),
                1_i32.to_be_bytes().to_vec(),
                text(&member.id),
                bytes(&assignment),
            ]
            .concat(),
        );
        assert_eq!(synced[..2], [0, 0], "SyncGroup is refused");
        member
    }

    /// Leaves the group.
    pub(crate) fn leave(mut self) {
        let body = [text(&self.group), text(&self.id)].concat();
        assert_eq!(self.call(LEAVE_GROUP, &body)[..2], [0, 0], "LeaveGroup is refused");
    }

    /// Asks in version 0 and returns the body of the answer.
    fn call(&mut self, key: i16, body: &[u8]) -> Vec<u8> {
        let header = [&key.to_be_bytes()[..], &[0, 0], &[0, 0, 0, 7], &text("tester")].concat();
        let length = u32::try_from(header.len() + body.len()).unwrap();
        self.stream.write_all(&[&length.to_be_bytes()[..], &header, body].concat()).unwrap();
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut answer).unwrap();
        answer.split_off(4)
    }
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

fn bytes(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes()[..], bytes].concat()
}

fn read_text(bytes: &[u8]) -> (String, &[u8]) {
    let (length, rest) = bytes.split_at(2);
    let (text, rest) = rest.split_at(usize::from(u16::from_be_bytes([length[0], length[1]])));
    (String::from_utf8(text.to_vec()).unwrap(), rest)
}
