//! AlterClientQuotas (49), versions 0 and 1: sets and takes away quotas of users and client ids (KIP-546).
//!
//! Each entry is judged by itself; what of it is right is one command of the metadata group, all of it or nothing.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_client_quotas_request as request;
use kafka_protocol::messages::alter_client_quotas_response as response;
use kafka_protocol::messages::{AlterClientQuotasRequest, AlterClientQuotasResponse};
use kafka_protocol::protocol::StrBytes;

use super::describe_client_quotas::{CLIENT, IP, USER};
use super::topics::Refusal;
use crate::broker::Broker;
use crate::dispatch::Call;
use crate::quotas::{Entity, Kind, Name};

/// Names may have so many bytes: they are kept, and told in whole.
const NAME_BYTES_MAX: usize = 1_024;
/// Quotas that Kafka has and that are not kept here.
const NOT_KEPT: [&str; 2] = ["controller_mutation_rate", "connection_creation_rate"];

pub(crate) async fn handle(
    broker: &Broker,
    _call: &Call,
    request: AlterClientQuotasRequest,
) -> AlterClientQuotasResponse {
    let mut entries = Vec::with_capacity(request.entries.len());
    for entry in request.entries {
        let altered = alter(broker, &entry, request.validate_only).await;
        let part = |part: request::EntityData| {
            response::EntityData::default()
                .with_entity_type(part.entity_type)
                .with_entity_name(part.entity_name)
        };
        let answer = response::EntryData::default()
            .with_entity(entry.entity.into_iter().map(part).collect());
        entries.push(match altered {
            Ok(()) => answer.with_error_message(None),
            Err(refusal) => answer
                .with_error_code(refusal.code.code())
                .with_error_message(Some(StrBytes::from_string(refusal.message))),
        });
    }
    AlterClientQuotasResponse::default().with_entries(entries)
}

async fn alter(
    broker: &Broker,
    entry: &request::EntryData,
    validate_only: bool,
) -> Result<(), Refusal> {
    let entity = entity(&entry.entity)?;
    let changes = entry.ops.iter().map(change).collect::<Result<Vec<_>, _>>()?;
    if !validate_only {
        broker.controller.alter_quotas(&entity, &changes).await?;
    }
    Ok(())
}

/// What the quotas are set on.
fn entity(parts: &[request::EntityData]) -> Result<Entity, Refusal> {
    let mut entity = Entity::default();
    for part in parts {
        let kind = part.entity_type.as_str();
        let place = match kind {
            USER => &mut entity.user,
            CLIENT => &mut entity.client,
            IP => return Err(invalid("quotas of ip addresses are not supported".into())),
            other => return Err(invalid(format!("Unhandled client quota entity type: {other}"))),
        };
        let name = match part.entity_name.as_deref() {
            None => Name::Default,
            Some("") => return Err(invalid(format!("Empty {kind} not supported"))),
            Some(name) if name.len() > NAME_BYTES_MAX => {
                return Err(invalid(format!("a {kind} may have {NAME_BYTES_MAX} bytes")));
            }
            Some(name) => Name::Is(name.to_owned()),
        };
        if place.replace(name).is_some() {
            return Err(invalid(format!("the {kind} is there more than once")));
        }
    }
    match entity == Entity::default() {
        true => Err(invalid("Invalid empty client quota entity".into())),
        false => Ok(entity),
    }
}

/// A quota, and its limit unless it is taken away.
fn change(op: &request::OpData) -> Result<(Kind, Option<f64>), Refusal> {
    let key = op.key.as_str();
    if NOT_KEPT.contains(&key) {
        return Err(invalid(format!("the quota {key} is not supported")));
    }
    let kind =
        Kind::of_key(key).ok_or_else(|| invalid(format!("Invalid configuration key {key}")))?;
    if op.remove {
        return Ok((kind, None));
    }
    let limit = op.value;
    if !limit.is_finite() || limit <= 0.0 {
        return Err(invalid(format!("Quota {key} must be greater than 0")));
    }
    if kind != Kind::Request && limit.fract() != 0.0 {
        return Err(invalid(format!("{key} cannot be a fractional value.")));
    }
    Ok((kind, Some(limit)))
}

fn invalid(text: String) -> Refusal {
    Refusal::new(ResponseError::InvalidRequest, text)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::alter_client_quotas_request::{EntityData, OpData};
    use kafka_protocol::protocol::StrBytes;

    use super::{Kind, NAME_BYTES_MAX, Name, change, entity};

    fn part(kind: &'static str, name: Option<&str>) -> EntityData {
        EntityData::default()
            .with_entity_type(StrBytes::from_static_str(kind))
            .with_entity_name(name.map(|name| StrBytes::from_string(name.to_owned())))
    }

    #[test]
    fn a_user_a_client_and_both_can_have_quotas_by_name_or_by_default() {
        let both = entity(&[part("client-id", None), part("user", Some("u"))]).unwrap();
        assert_eq!((both.user, both.client), (Some(Name::Is("u".into())), Some(Name::Default)));
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        let cases = [
            vec![],
            vec![part("ip", Some("127.0.0.1"))],
            vec![part("group", Some("g"))],
            vec![part("user", Some(""))],
            vec![part("user", None), part("user", Some("u"))],
            vec![part("user", Some(&long))],
        ];
        for parts in cases {
            assert_eq!(entity(&parts).unwrap_err().code.code(), 42, "{parts:?}");
        }
    }

    #[test]
    fn limits_are_above_nothing_and_those_of_bytes_are_whole() {
        let op = |key, value, remove| {
            let key = StrBytes::from_static_str(key);
            change(&OpData::default().with_key(key).with_value(value).with_remove(remove))
        };
        assert_eq!(op("producer_byte_rate", 5.0, false).ok(), Some((Kind::Produce, Some(5.0))));
        assert_eq!(op("request_percentage", 0.5, false).ok(), Some((Kind::Request, Some(0.5))));
        assert_eq!(op("consumer_byte_rate", 0.0, true).ok(), Some((Kind::Fetch, None)));
        for (key, value) in [
            ("producer_byte_rate", 0.0),
            ("producer_byte_rate", 1.5),
            ("request_percentage", f64::NAN),
            ("request_percentage", f64::INFINITY),
            ("controller_mutation_rate", 1.0),
            ("bytes", 1.0),
        ] {
            assert_eq!(op(key, value, false).unwrap_err().code.code(), 42, "{key} {value}");
        }
    }
}
