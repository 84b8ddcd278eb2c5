//! Every key RocksDB ever sees, in one place. `docs/storage-format.md` draws them.
//!
//! Invariants:
//! - All integers are big endian, so that byte order is numeric order.
//! - Keys of `meta` and `default` begin with a [`Tag`]; no two tags share a byte.
//! - Offsets in keys are never negative.

use crate::{Index, Offset, PartitionId, RetentionClass, Term};

/// Bytes of a data key.
pub(crate) const DATA_KEY_BYTES: usize = 12;

/// The first byte of a key in `meta` and `default`. A byte is never given a second meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Tag {
    /// A bucket and its state.
    Bucket = b'b',
    /// A partition's committed position.
    Committed = b'c',
    /// Which bucket holds a partition from an index on.
    Directory = b'd',
    /// Where a term begins.
    Epoch = b'e',
    /// A partition's sparse offset index.
    Sparse = b'i',
    /// A partition's checkpoint.
    Checkpoint = b'k',
    /// A value of the node itself (family `default`).
    Node = b'n',
    /// A partition that exists.
    Partition = b'p',
    /// A partition's log start offset.
    LogStart = b's',
    /// What a partition is as a table.
    Table = b't',
    /// The end of what was purged.
    Purged = b'u',
    /// A partition's vote.
    Vote = b'v',
}

impl Tag {
    /// The tag with this byte.
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        let tags = [
            Self::Bucket,
            Self::Committed,
            Self::Directory,
            Self::Epoch,
            Self::Sparse,
            Self::Checkpoint,
            Self::Node,
            Self::Partition,
            Self::LogStart,
            Self::Table,
            Self::Purged,
            Self::Vote,
        ];
        tags.into_iter().find(|tag| *tag as u8 == byte)
    }
}

/// A bucket: a column family that partitions of one class share for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BucketId {
    /// Sequence number, unique over all classes and growing.
    pub(crate) seq: u64,
    /// The retention class.
    pub(crate) class: RetentionClass,
}

impl BucketId {
    /// The name of its column family.
    pub(crate) fn family(self) -> String {
        format!("bucket-{:02}-{:010}", self.class.0, self.seq)
    }

    /// The bucket whose column family is called `name`.
    pub(crate) fn from_family(name: &str) -> Option<Self> {
        let (class, seq) = name.strip_prefix("bucket-")?.split_once('-')?;
        Some(Self { class: RetentionClass(class.parse().ok()?), seq: seq.parse().ok()? })
    }
}

/// The key of an entry in a bucket.
pub(crate) fn data(id: PartitionId, index: Index) -> [u8; DATA_KEY_BYTES] {
    let mut key = [0; DATA_KEY_BYTES];
    key[..4].copy_from_slice(&id.0.to_be_bytes());
    key[4..].copy_from_slice(&index.0.to_be_bytes());
    key
}

/// The key behind the last one an entry of `id` can have, if there is one.
pub(crate) fn data_end(id: PartitionId) -> [u8; DATA_KEY_BYTES + 1] {
    let mut key = [0xff; DATA_KEY_BYTES + 1];
    key[..4].copy_from_slice(&id.0.to_be_bytes());
    key
}

/// The index in a data key of `id`; `None` for any other key.
pub(crate) fn data_index(id: PartitionId, key: &[u8]) -> Option<Index> {
    let index = key.strip_prefix(&id.0.to_be_bytes())?;
    Some(Index(u64::from_be_bytes(index.try_into().ok()?)))
}

/// The key of a row of which a partition has one.
pub(crate) fn one(tag: Tag, id: PartitionId) -> Vec<u8> {
    let mut key = Vec::with_capacity(13);
    key.push(tag as u8);
    key.extend_from_slice(&id.0.to_be_bytes());
    key
}

/// The key of a row of which a partition has many.
pub(crate) fn many(tag: Tag, id: PartitionId, position: u64) -> Vec<u8> {
    let mut key = one(tag, id);
    key.extend_from_slice(&position.to_be_bytes());
    key
}

/// The key of an epoch row.
pub(crate) fn epoch(id: PartitionId, term: Term) -> Vec<u8> {
    many(Tag::Epoch, id, term.0)
}

/// The key of a directory row.
pub(crate) fn directory(id: PartitionId, first: Index) -> Vec<u8> {
    many(Tag::Directory, id, first.0)
}

/// The key of a sparse index row.
pub(crate) fn sparse(id: PartitionId, offset: Offset) -> Vec<u8> {
    many(Tag::Sparse, id, u64::try_from(offset.0).unwrap_or(0))
}

/// The keys between which all rows `tag` of `id` lie.
pub(crate) fn all(tag: Tag, id: PartitionId) -> (Vec<u8>, Vec<u8>) {
    let start = one(tag, id);
    let mut end = start.clone();
    end.extend_from_slice(&[0xff; 9]);
    (start, end)
}

/// The position at the end of a key made by [`many`].
pub(crate) fn position(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(5..)?.try_into().ok()?))
}

/// The partition in a key made by [`one`] or [`many`].
pub(crate) fn partition(key: &[u8]) -> Option<PartitionId> {
    Some(PartitionId(u32::from_be_bytes(key.get(1..5)?.try_into().ok()?)))
}

/// The key of a bucket row.
pub(crate) fn bucket(id: BucketId) -> Vec<u8> {
    let mut key = vec![Tag::Bucket as u8, id.class.0];
    key.extend_from_slice(&id.seq.to_be_bytes());
    key
}

/// The bucket in a key made by [`bucket`].
pub(crate) fn bucket_id(key: &[u8]) -> Option<BucketId> {
    let seq = u64::from_be_bytes(key.get(2..)?.try_into().ok()?);
    Some(BucketId { class: RetentionClass(*key.get(1)?), seq })
}

/// Bytes of an [`Area`] in keys of `keys` and `compacted`.
pub(crate) const AREA_BYTES: usize = 8;

/// The keys of one partition in `keys` and `compacted`. A partition gets another area when its table begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) id: PartitionId,
    pub(crate) number: u32,
}

impl Area {
    /// What its keys begin with.
    pub(crate) fn prefix(self) -> [u8; AREA_BYTES] {
        let mut prefix = [0; AREA_BYTES];
        prefix[..4].copy_from_slice(&self.id.0.to_be_bytes());
        prefix[4..].copy_from_slice(&self.number.to_be_bytes());
        prefix
    }

    /// The area of a key.
    pub(crate) fn of(key: &[u8]) -> Option<Self> {
        let (prefix, _) = key.split_first_chunk::<AREA_BYTES>()?;
        let prefix = u64::from_be_bytes(*prefix);
        let (id, number) =
            (u32::try_from(prefix >> 32).ok()?, u32::try_from(prefix & 0xffff_ffff).ok()?);
        Some(Self { id: PartitionId(id), number })
    }

    /// The keys between which all of the area lie, in either family.
    pub(crate) fn bounds(self) -> (Vec<u8>, Vec<u8>) {
        (self.prefix().to_vec(), behind(self.prefix().to_vec()))
    }

    /// The key of a settled batch that ends with `last`.
    pub(crate) fn settled(self, last: Offset) -> Vec<u8> {
        let mut key = self.prefix().to_vec();
        key.extend_from_slice(&last.0.cast_unsigned().to_be_bytes());
        key
    }
}

/// The offset in a key made by [`Area::settled`].
pub(crate) fn settled_offset(key: &[u8]) -> Option<Offset> {
    let offset = u64::from_be_bytes(key.get(AREA_BYTES..)?.try_into().ok()?);
    Some(Offset(offset.cast_signed()))
}

/// The keys between which everything of `id` lies in `keys` and `compacted`.
pub(crate) fn all_areas(id: PartitionId) -> (Vec<u8>, Vec<u8>) {
    (id.0.to_be_bytes().to_vec(), behind(id.0.to_be_bytes().to_vec()))
}

/// The smallest key behind all that begin with `prefix`; longer than any when there is none.
pub(crate) fn behind(mut prefix: Vec<u8>) -> Vec<u8> {
    let carries = prefix.iter().rev().take_while(|byte| **byte == u8::MAX).count();
    if carries == prefix.len() {
        prefix.extend([u8::MAX; 32]);
        return prefix;
    }
    prefix.truncate(prefix.len() - carries);
    if let Some(last) = prefix.last_mut() {
        *last += 1;
    }
    prefix
}

/// The key of a node value.
pub(crate) fn node(name: &str) -> Vec<u8> {
    let mut key = vec![Tag::Node as u8];
    key.extend_from_slice(name.as_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::{BucketId, Tag, bucket, bucket_id, data, data_end, data_index, many, position};
    use crate::{Index, PartitionId, RetentionClass};

    #[test]
    fn no_two_tags_share_a_byte() {
        let tags = [
            Tag::Bucket,
            Tag::Committed,
            Tag::Directory,
            Tag::Epoch,
            Tag::Sparse,
            Tag::Checkpoint,
            Tag::Node,
            Tag::Partition,
            Tag::LogStart,
            Tag::Table,
            Tag::Purged,
            Tag::Vote,
        ];
        let mut bytes: Vec<u8> = tags.iter().map(|tag| *tag as u8).collect();
        bytes.sort_unstable();
        bytes.dedup();
        assert_eq!(bytes.len(), tags.len());
    }

    #[test]
    fn everything_with_a_prefix_lies_before_the_key_behind_it() {
        for prefix in [vec![1, 2], vec![1, 255], vec![255, 255]] {
            let end = super::behind(prefix.clone());
            assert!(prefix < end && [prefix.as_slice(), &[255; 20]].concat() < end);
        }
        assert_eq!(super::behind(vec![1, 255]), [2]);
        let area = super::Area { id: PartitionId(7), number: 9 };
        assert_eq!(super::Area::of(&area.settled(crate::Offset(3))), Some(area));
        assert_eq!(super::settled_offset(&area.settled(crate::Offset(3))), Some(crate::Offset(3)));
    }

    #[test]
    fn keys_order_as_their_numbers_and_decode_to_them() {
        let id = PartitionId(7);
        assert!(data(id, Index(255)) < data(id, Index(256)));
        assert!(data(id, Index(u64::MAX)).as_slice() < data_end(id).as_slice());
        assert!(data_end(id).as_slice() < data(PartitionId(8), Index(0)).as_slice());
        assert_eq!(data_index(id, &data(id, Index(9))), Some(Index(9)));
        assert_eq!(data_index(PartitionId(8), &data(id, Index(9))), None);
        assert_eq!(position(&many(Tag::Epoch, id, 12)), Some(12));
        let id = BucketId { class: RetentionClass(3), seq: 12 };
        assert_eq!(bucket_id(&bucket(id)), Some(id));
        assert_eq!(BucketId::from_family(&id.family()), Some(id));
        assert_eq!(BucketId::from_family("meta"), None);
    }
}
