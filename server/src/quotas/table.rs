//! Which quotas are set, and which one holds for a client.
//!
//! The most specific one holds, as in Kafka: a user's quota for a client before that for any client before that of the
//! user alone; the same for any user; then a client's of any user, and that of any client.

use std::collections::BTreeMap;

use super::Kind;

/// A user or a client by name, or any that has no quota of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Name {
    /// All that are not named.
    Default,
    /// This one.
    Is(String),
}

/// What a quota is set on; one of the two is there at least.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Entity {
    pub(crate) user: Option<Name>,
    pub(crate) client: Option<Name>,
}

/// Who shares a quota: those of the user, of the client id, or of both.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Scope {
    user: Option<String>,
    client: Option<String>,
}

/// The quotas that are set.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Table {
    set: BTreeMap<Entity, BTreeMap<Kind, f64>>,
}

impl Table {
    /// Sets a quota, or takes it away.
    pub(crate) fn set(&mut self, entity: Entity, kind: Kind, limit: Option<f64>) {
        match limit {
            Some(limit) => drop(self.set.entry(entity).or_default().insert(kind, limit)),
            None => {
                if let Some(of) = self.set.get_mut(&entity) {
                    of.remove(&kind);
                    if of.is_empty() {
                        self.set.remove(&entity);
                    }
                }
            }
        }
    }

    /// Whether nothing is set.
    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// All that is set, by entity.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Entity, &BTreeMap<Kind, f64>)> {
        self.set.iter()
    }

    /// The quota of a client, and who shares it.
    pub(crate) fn find(&self, kind: Kind, user: &str, client: &str) -> Option<(f64, Scope)> {
        if self.set.is_empty() {
            return None;
        }
        let is = |name: &str| Some(Name::Is(name.to_owned()));
        let any = || Some(Name::Default);
        let in_order = [
            (is(user), is(client)),
            (is(user), any()),
            (is(user), None),
            (any(), is(client)),
            (any(), any()),
            (any(), None),
            (None, is(client)),
            (None, any()),
        ];
        in_order.into_iter().find_map(|(of_user, of_client)| {
            let scope = Scope {
                user: of_user.as_ref().map(|_| user.to_owned()),
                client: of_client.as_ref().map(|_| client.to_owned()),
            };
            let entity = Entity { user: of_user, client: of_client };
            Some((*self.set.get(&entity)?.get(&kind)?, scope))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Entity, Kind, Name, Scope, Table};

    fn is(name: &str) -> Option<Name> {
        Some(Name::Is(name.to_owned()))
    }

    const ANY: Option<Name> = Some(Name::Default);

    /// All that can be set for user `u` and client `c`, the one that holds first.
    fn in_order() -> Vec<Entity> {
        let of = |user, client| Entity { user, client };
        vec![
            of(is("u"), is("c")),
            of(is("u"), ANY),
            of(is("u"), None),
            of(ANY, is("c")),
            of(ANY, ANY),
            of(ANY, None),
            of(None, is("c")),
            of(None, ANY),
        ]
    }

    #[test]
    fn the_most_specific_quota_holds() {
        let entities = in_order();
        for first in 0..entities.len() {
            let mut table = Table::default();
            for (limit, entity) in (0_u32..).zip(&entities).skip(first) {
                table.set(entity.clone(), Kind::Produce, Some(f64::from(limit)));
            }
            let (limit, _) = table.find(Kind::Produce, "u", "c").unwrap();
            assert_eq!(limit, f64::from(u32::try_from(first).unwrap()), "{:?}", entities[first]);
        }
    }

    #[test]
    fn a_quota_is_shared_by_those_whom_its_entity_does_not_tell_apart() {
        let scope = |user: Option<&str>, client: Option<&str>| Scope {
            user: user.map(str::to_owned),
            client: client.map(str::to_owned),
        };
        let both = || scope(Some("u"), Some("c"));
        let expected = [
            both(),
            both(),
            scope(Some("u"), None),
            both(),
            both(),
            scope(Some("u"), None),
            scope(None, Some("c")),
            scope(None, Some("c")),
        ];
        for (entity, expected) in in_order().into_iter().zip(expected) {
            let mut table = Table::default();
            table.set(entity.clone(), Kind::Fetch, Some(1.0));
            assert_eq!(table.find(Kind::Fetch, "u", "c"), Some((1.0, expected)), "{entity:?}");
        }
    }

    #[test]
    fn a_more_specific_entity_without_that_quota_does_not_hide_another() {
        let mut table = Table::default();
        table.set(Entity { user: is("u"), client: is("c") }, Kind::Fetch, Some(1.0));
        table.set(Entity { user: None, client: ANY }, Kind::Produce, Some(2.0));
        assert_eq!(table.find(Kind::Produce, "u", "c").unwrap().0, 2.0);
        assert_eq!(table.find(Kind::Request, "u", "c"), None);
        assert_eq!(table.find(Kind::Fetch, "u", "other"), None);
    }

    #[test]
    fn what_is_taken_away_is_gone() {
        let entity = || Entity { user: None, client: ANY };
        let mut table = Table::default();
        table.set(entity(), Kind::Produce, Some(2.0));
        table.set(entity(), Kind::Produce, None);
        table.set(entity(), Kind::Fetch, None);
        assert_eq!(table, Table::default());
    }
}
