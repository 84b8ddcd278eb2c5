//! Which brokers hold a partition's replicas. Pure; racks and load come with the cluster.

/// Replicas of `count` partitions over `brokers`, each partition starting one broker further, so that
/// leaders and replicas are spread evenly. `first` is the number of the first partition placed.
pub(crate) fn place(
    brokers: &[i32],
    replication_factor: usize,
    first: usize,
    count: usize,
) -> Vec<Vec<i32>> {
    let replicas = replication_factor.min(brokers.len());
    let of =
        |partition: usize| (0..replicas).map(move |r| brokers[(partition + r) % brokers.len()]);
    (first..first + count).map(|partition| of(partition).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_distinct_and_leaders_are_spread() {
        assert_eq!(place(&[1, 2, 3], 2, 0, 3), [[1, 2], [2, 3], [3, 1]]);
    }

    #[test]
    fn added_partitions_go_on_where_the_others_ended() {
        assert_eq!(place(&[1, 2, 3], 1, 2, 2), [[3], [1]]);
    }
}
