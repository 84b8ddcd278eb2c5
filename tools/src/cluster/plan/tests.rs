//! Plans of a few brokers by hand, and of any clusters by their invariants.

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};

use super::*;

fn brokers(racks: &[&str]) -> Vec<Broker> {
    let broker = |(id, rack): (i32, &&str)| Broker {
        id: BrokerId(id),
        address: String::new(),
        rack: (!rack.is_empty()).then(|| (*rack).to_owned()),
        alive: true,
        draining: false,
    };
    (1..).zip(racks).map(broker).collect()
}

fn placed(replicas: &[&[i32]]) -> Vec<Placed> {
    let partition = |(partition, ids): (i32, &&[i32])| Placed {
        topic: "t".to_owned(),
        partition,
        replicas: ids.iter().map(|id| BrokerId(*id)).collect(),
        moving: false,
    };
    (0..).zip(replicas).map(partition).collect()
}

fn targets(moves: &[Move]) -> Vec<Vec<i32>> {
    let ids = |m: &Move| m.to.iter().flatten().map(|broker| broker.0).collect();
    moves.iter().map(ids).collect()
}

#[test]
fn draining_replaces_only_the_leaving_broker() {
    let placed = placed(&[&[1, 2], &[2, 3], &[3, 1]]);
    let moves = drain(&brokers(&["", "", "", ""]), &placed, BrokerId(1)).unwrap();
    assert_eq!(targets(&moves), [[4, 2], [3, 4]]);
}

#[test]
fn draining_keeps_racks_apart() {
    let placed = placed(&[&[1, 2]]);
    let moves = drain(&brokers(&["a", "b", "b", "c"]), &placed, BrokerId(1)).unwrap();
    assert_eq!(targets(&moves), [[4, 2]], "broker 3 shares the rack of broker 2");
}

#[test]
fn draining_needs_another_broker_for_each_replica() {
    let placed = placed(&[&[1, 2]]);
    let refused = drain(&brokers(&["", ""]), &placed, BrokerId(1)).unwrap_err();
    assert!(refused.to_string().contains("add a broker first"), "{refused}");
}

#[test]
fn rebalancing_levels_the_number_of_replicas_and_stops() {
    let placed = placed(&[&[1, 2], &[1, 2], &[1, 2], &[1, 2], &[1, 2], &[1, 2]]);
    let brokers = brokers(&["", "", ""]);
    let moves = rebalance(&brokers, &placed, None);
    let mut after: BTreeMap<i32, usize> = BTreeMap::new();
    let moved: BTreeMap<i32, Vec<i32>> =
        moves.iter().map(|m| m.partition).zip(targets(&moves)).collect();
    for partition in &placed {
        let before = partition.replicas.iter().map(|b| b.0).collect();
        let replicas = moved.get(&partition.partition).unwrap_or(&before);
        assert_ne!(replicas[0], replicas[1]);
        for broker in replicas {
            *after.entry(*broker).or_default() += 1;
        }
    }
    assert_eq!(after.into_values().collect::<Vec<_>>(), [4, 4, 4]);
    assert!(rebalance(&brokers, &[], None).is_empty());
}

#[test]
fn a_new_broker_gets_its_share_and_nothing_else_moves() {
    let placed = placed(&[&[1], &[1], &[1], &[2]]);
    let moves = rebalance(&brokers(&["", "", ""]), &placed, Some(BrokerId(3)));
    assert_eq!(targets(&moves), [[3]]);
}

#[test]
fn nothing_goes_to_a_broker_that_is_dead_or_being_emptied() {
    let mut brokers = brokers(&["", "", "", "", ""]);
    (brokers[3].alive, brokers[4].draining) = (false, true);
    let on = placed(&[&[1, 2], &[1, 2], &[1, 2]]);
    assert_eq!(targets(&drain(&brokers, &on, BrokerId(1)).unwrap()), [[3, 2], [3, 2], [3, 2]]);
    assert_eq!(targets(&rebalance(&brokers, &on, None)), [[1, 3], [3, 2]]);
    let on = placed(&[&[1, 2, 3]]);
    let refused = drain(&brokers, &on, BrokerId(1)).unwrap_err();
    assert!(refused.to_string().contains("only 2 other brokers"), "{refused}");
}

#[test]
fn a_partition_with_a_dead_replica_is_not_moved_to_level_the_others() {
    let mut brokers = brokers(&["", "", "", ""]);
    brokers[3].alive = false;
    assert_eq!(rebalance(&brokers, &placed(&[&[1, 4], &[1, 4], &[2, 4]]), None), []);
}

#[test]
fn where_a_partition_is_moving_counts_as_where_it_is() {
    let mut on = placed(&[&[3], &[1], &[1], &[1]]);
    on[0].moving = true;
    assert_eq!(targets(&rebalance(&brokers(&["", "", ""]), &on, None)), [[2]]);
    assert_eq!(targets(&drain(&brokers(&["", "", ""]), &on, BrokerId(3)).unwrap()), [[2]]);
}

/// Brokers of which some are dead or draining, and partitions on any of them.
fn clusters() -> impl Strategy<Value = (Vec<Broker>, Vec<Placed>, BrokerId)> {
    let of_broker = (any::<bool>(), any::<bool>(), "[ab]?", any::<bool>());
    let of_partition = (0..100_usize, 1..5_usize, any::<bool>());
    (vec(of_broker, 1..8), vec(of_partition, 0..30), 1..8_i32).prop_map(
        |(of_brokers, of_partitions, which)| {
            let racks: Vec<&str> = of_brokers.iter().map(|(_, _, rack, _)| rack.as_str()).collect();
            let mut brokers = brokers(&racks);
            for (broker, (dead, draining, _, both)) in brokers.iter_mut().zip(&of_brokers) {
                // Most of them are neither.
                (broker.alive, broker.draining) = (!(*dead && *both), *draining && *both);
            }
            let count = brokers.len();
            let partition = |(number, (first, factor, moving)): (i32, &(usize, usize, bool))| {
                let ids = brokers.iter().map(|broker| broker.id).cycle().skip(first % count);
                let replicas = ids.take((*factor).min(count)).collect();
                Placed { topic: "t".to_owned(), partition: number, replicas, moving: *moving }
            };
            let placed = (0..).zip(&of_partitions).map(partition).collect();
            let which = BrokerId(which.min(i32::try_from(count).unwrap()));
            (brokers, placed, which)
        },
    )
}

/// Checks what holds for every plan, and returns what comes of it.
fn carried_out(brokers: &[Broker], placed: &[Placed], moves: &[Move]) -> Vec<Placed> {
    let mut placed = placed.to_vec();
    let usable = |id: &BrokerId| brokers.iter().any(|b| b.id == *id && b.alive && !b.draining);
    for moved in moves {
        let partition = placed.iter_mut().find(|p| p.partition == moved.partition).unwrap();
        let to = moved.to.clone().unwrap();
        assert_eq!(to.len(), partition.replicas.len());
        assert_eq!(to.iter().collect::<BTreeSet<_>>().len(), to.len(), "{to:?}");
        assert_ne!(to, partition.replicas, "a move that moves nothing");
        for new in to.iter().filter(|id| !partition.replicas.contains(id)) {
            assert!(usable(new), "{new:?} is dead or drains");
        }
        partition.replicas = to;
    }
    placed
}

proptest! {
    #[test]
    fn a_broker_that_was_drained_holds_nothing((brokers, placed, which) in clusters()) {
        if let Ok(moves) = drain(&brokers, &placed, which) {
            let after = carried_out(&brokers, &placed, &moves);
            prop_assert!(after.iter().all(|partition| !partition.replicas.contains(&which)));
            prop_assert_eq!(drain(&brokers, &after, which).unwrap(), []);
        }
    }

    #[test]
    fn what_was_levelled_is_level((brokers, placed, which) in clusters(), onto: bool) {
        let onto = onto.then_some(which);
        let moves = rebalance(&brokers, &placed, onto);
        let still = |moved: &Move| placed.iter().any(|p| p.partition == moved.partition && p.moving);
        prop_assert!(!moves.iter().any(still), "what moves is left to itself");
        let after = carried_out(&brokers, &placed, &moves);
        prop_assert_eq!(rebalance(&brokers, &after, onto), []);
    }
}
