//! Client quotas are set and taken away. Given twice, a command changes nothing more.

use std::sync::Arc;

use crate::controller::image::Data;
use crate::proto::metadata::{self as proto, outcome::Error};
use crate::quotas::{Entity, Kind, Name, Table};

/// Changes some quotas, all of them or, when one makes no sense, none.
pub(super) fn alter(data: &mut Data, command: proto::AlterQuotas) -> Result<(), Error> {
    let mut table = Table::clone(&data.quotas);
    for change in command.changes {
        // Whoever gave the command has checked it.
        set(&mut table, change).ok_or(Error::Stale)?;
    }
    data.quotas = Arc::new(table);
    Ok(())
}

/// Takes in a quota; `None` when it makes no sense.
pub(super) fn set(table: &mut Table, quota: proto::Quota) -> Option<()> {
    let name = |name: proto::QuotaName| name.name.map_or(Name::Default, Name::Is);
    let entity = Entity { user: quota.user.map(name), client: quota.client.map(name) };
    let kind = Kind::of_key(&quota.key)?;
    let sensible = quota.limit.is_none_or(|limit| limit.is_finite() && limit > 0.0);
    if !sensible || entity == Entity::default() {
        return None;
    }
    table.set(entity, kind, quota.limit);
    Some(())
}

/// All quotas, as commands and checkpoints have them.
pub(super) fn all(table: &Table) -> Vec<proto::Quota> {
    table
        .iter()
        .flat_map(|(entity, of)| of.iter().map(|(k, v)| to_proto(entity, *k, Some(*v))))
        .collect()
}

/// A quota of an entity, or with no limit that it has none.
pub(in crate::controller) fn to_proto(
    entity: &Entity,
    kind: Kind,
    limit: Option<f64>,
) -> proto::Quota {
    let name = |name: &Name| match name {
        Name::Default => proto::QuotaName { name: None },
        Name::Is(name) => proto::QuotaName { name: Some(name.clone()) },
    };
    proto::Quota {
        user: entity.user.as_ref().map(name),
        client: entity.client.as_ref().map(name),
        key: kind.key().to_owned(),
        limit,
    }
}
