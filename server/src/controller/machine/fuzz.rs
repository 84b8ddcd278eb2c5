//! Commands and checkpoints of group 0 that are not what they should be.
//!
//! A command that does not decode is refused, on every replica alike; a checkpoint that does not decode is an
//! error at the start. Nothing is set aside on the word of a length: prost lets a field grow as its bytes are read.

use std::collections::BTreeMap;

use bytes::Bytes;
use jangbu_engine::{EntryKind, Offset};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::Index;

use super::*;

fn machine() -> MetadataMachine {
    let holder = Holder::default();
    MetadataMachine::new(Arc::new(SharedImage::new(&holder)), holder)
}

fn committed(payload: Vec<u8>) -> Committed {
    let (base_offset, next_offset) = (Offset(0), Offset(0));
    Committed { kind: EntryKind::Command, base_offset, next_offset, payload: Bytes::from(payload) }
}

/// Applies a command; its outcome, which always decodes.
fn applied(machine: &mut MetadataMachine, payload: Vec<u8>) -> proto::Outcome {
    let outcome = machine.apply(&committed(payload));
    proto::Outcome::decode(outcome).expect("an outcome")
}

/// Few, so that commands meet.
fn id() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![9 => (0..4_u8).prop_map(|id| vec![id; 16]), 1 => vec(any::<u8>(), 0..20)]
}

fn configs() -> impl Strategy<Value = BTreeMap<String, String>> {
    let name = prop_oneof![Just("retention.ms"), Just("compression.type"), Just("no.such")];
    let value = prop_oneof![Just("1"), Just("zstd"), Just("-9223372036854775808"), Just("")];
    proptest::collection::btree_map(
        name.prop_map(str::to_owned),
        value.prop_map(str::to_owned),
        0..3,
    )
}

fn replicas() -> impl Strategy<Value = Vec<proto::Replicas>> {
    vec(vec(any::<i32>(), 0..3).prop_map(|brokers| proto::Replicas { brokers }), 0..4)
}

fn command() -> impl Strategy<Value = Command> {
    let broker = || proptest::option::of(0..2_i32);
    prop_oneof![
        "[ab]{0,2}".prop_map(|cluster_id| Command::InitCluster(proto::InitCluster {
            cluster_id,
            last_broker: 0
        })),
        (any::<i32>(), "[a-z]{0,3}", any::<u32>()).prop_map(|(id, host, port)| {
            let broker = proto::Broker { id, host, port, ..proto::Broker::default() };
            Command::RegisterBroker(proto::RegisterBroker { broker: Some(broker) })
        }),
        ("[ab]{1,2}", id(), replicas(), configs()).prop_map(|(name, id, partitions, configs)| {
            Command::CreateTopic(proto::CreateTopic { name, id, partitions, configs })
        }),
        id().prop_map(|id| Command::DeleteTopic(proto::DeleteTopic { id })),
        (id(), 0..4_u32, replicas()).prop_map(|(id, existing, partitions)| {
            Command::CreatePartitions(proto::CreatePartitions { id, existing, partitions })
        }),
        (0..4_u32, any::<u64>(), vec(any::<u64>(), 0..3)).prop_map(|(group, term, behind)| {
            let groups = vec![proto::report_in_sync::Led { group, term, behind }];
            Command::ReportInSync(proto::ReportInSync { groups })
        }),
        (0..4_u32, any::<u64>(), any::<bool>()).prop_map(|(group, replica, stopped)| {
            let replicas = vec![proto::report_damaged::Damaged { group, replica, stopped }];
            Command::ReportDamaged(proto::ReportDamaged { replicas })
        }),
        any::<u32>().prop_map(|count| {
            Command::AllocateProducerIds(proto::AllocateProducerIds { count })
        }),
        (id(), configs(), configs()).prop_map(|(id, seen, configs)| {
            Command::SetTopicConfigs(proto::SetTopicConfigs { id, seen, configs })
        }),
        (broker(), configs(), configs()).prop_map(|(broker, seen, configs)| {
            Command::SetBrokerConfigs(proto::SetBrokerConfigs { broker, seen, configs })
        }),
        ("[gh]", configs(), configs()).prop_map(|(group, seen, configs)| {
            Command::SetGroupConfigs(proto::SetGroupConfigs { group, seen, configs })
        }),
    ]
}

/// Commands as they are stored.
fn commands() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let encoded = |command| proto::Command { command: Some(command) }.encode_to_vec();
    vec(command().prop_map(encoded), 0..20)
}

type Changes = Vec<(Index, u8, u8)>;

fn changes() -> impl Strategy<Value = Changes> {
    vec((any::<Index>(), any::<u8>(), 0..3_u8), 1..5)
}

fn change(bytes: &mut Vec<u8>, changes: &Changes) {
    for (at, value, what) in changes {
        let at = at.index(bytes.len() + 1);
        match what {
            0 if at < bytes.len() => bytes[at] = *value,
            1 if at < bytes.len() => drop(bytes.remove(at)),
            _ => bytes.insert(at, *value),
        }
    }
}

/// A machine that has applied `commands` goes on as one that starts from its checkpoint does.
fn assert_checkpoint_holds(machine: &mut MetadataMachine) {
    let checkpoint = machine.checkpoint();
    let mut restored = self::machine();
    restored.restore(&checkpoint, Offset(0)).expect("its own checkpoint");
    assert_eq!(restored.checkpoint(), checkpoint);
}

#[test]
fn what_does_not_decode_is_refused_and_changes_nothing() {
    let mut machine = machine();
    let before = machine.checkpoint();
    // A length that nothing backs, an unknown field, nothing at all.
    for payload in [&b"\x1a\xff\xff\xff\xff\x0f"[..], b"\xfa\x01\x00", b"", b"\xff\xff\xff"] {
        let outcome = applied(&mut machine, payload.to_vec());
        assert_eq!(outcome.error(), outcome::Error::Stale, "{payload:?}");
        assert_eq!(machine.checkpoint(), before);
    }
    assert!(machine.restore(b"\x2a\xff\xff\xff\xff\x0f", Offset(0)).is_err());
    assert_eq!(machine.checkpoint(), before, "a checkpoint that fails leaves what was there");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let mut machine = machine();
        applied(&mut machine, bytes.clone());
        if machine.restore(&bytes, Offset(0)).is_ok() {
            assert_checkpoint_holds(&mut machine);
        }
    }

    #[test]
    fn any_commands_leave_a_state_whose_checkpoint_holds(commands in commands()) {
        let mut machine = machine();
        for command in commands {
            applied(&mut machine, command);
        }
        assert_checkpoint_holds(&mut machine);
    }

    #[test]
    fn a_group_is_never_given_out_twice_whatever_is_asked(commands in commands()) {
        let mut machine = machine();
        let mut last = 0;
        for command in commands {
            applied(&mut machine, command);
            let image = machine.image.read();
            let newest = image.topics().flat_map(|t| &t.partitions).map(|p| p.group.0).max();
            prop_assert!(newest.is_none_or(|newest| newest < image.next_group));
            prop_assert!(image.next_group >= last, "ids go up");
            last = image.next_group;
        }
    }

    #[test]
    fn a_changed_command_is_applied_alike_everywhere(
        commands in commands(), which: Index, changes in changes(),
    ) {
        let mut commands = commands;
        if let Some(at) = (!commands.is_empty()).then(|| which.index(commands.len())) {
            change(&mut commands[at], &changes);
        }
        let (mut one, mut other) = (machine(), machine());
        for command in commands {
            prop_assert_eq!(applied(&mut one, command.clone()), applied(&mut other, command));
        }
        prop_assert_eq!(one.checkpoint(), other.checkpoint());
        assert_checkpoint_holds(&mut one);
    }

    #[test]
    fn a_changed_checkpoint_decodes_or_fails_and_commands_go_on(
        before in commands(), changes in changes(), after in commands(),
    ) {
        let mut first = machine();
        for command in before {
            applied(&mut first, command);
        }
        let mut bytes = first.checkpoint().to_vec();
        change(&mut bytes, &changes);
        let mut machine = machine();
        if machine.restore(&bytes, Offset(0)).is_ok() {
            for command in after {
                applied(&mut machine, command);
            }
            assert_checkpoint_holds(&mut machine);
        }
    }
}
