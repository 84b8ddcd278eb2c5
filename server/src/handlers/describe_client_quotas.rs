//! DescribeClientQuotas (48), versions 0 and 1: the quotas of users and client ids that a filter lets through (KIP-546).

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use kafka_protocol::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};
use kafka_protocol::protocol::StrBytes;

use super::topics::Refusal;
use crate::broker::Broker;
use crate::dispatch::Call;
use crate::quotas::{Entity, Kind, Name};

/// What a quota can be set on.
pub(super) const USER: &str = "user";
pub(super) const CLIENT: &str = "client-id";
/// Addresses have only the rate at which connections are made, which is not limited here.
pub(super) const IP: &str = "ip";

/// How a component is matched: by this name, the default, or whatever name it has.
const MATCH_EXACT: i8 = 0;
const MATCH_DEFAULT: i8 = 1;
const MATCH_ANY: i8 = 2;

/// What an entity must be to be told.
#[derive(Debug, Default)]
struct Filter {
    user: Option<Wanted>,
    client: Option<Wanted>,
    strict: bool,
    /// No entity has an address.
    nothing: bool,
}

#[derive(Debug)]
enum Wanted {
    This(Name),
    Any,
}

pub(crate) async fn handle(
    broker: &Broker,
    _call: &Call,
    request: DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    let filter = match filter(&request) {
        Ok(filter) => filter,
        Err(refusal) => {
            return DescribeClientQuotasResponse::default()
                .with_error_code(refusal.code.code())
                .with_error_message(Some(StrBytes::from_string(refusal.message)))
                .with_entries(None);
        }
    };
    let table = broker.controller.image().quotas.clone();
    let told = table.iter().filter(|(entity, _)| filter.lets_through(entity));
    let entries = told.map(|(entity, of)| entry(entity, of)).collect();
    DescribeClientQuotasResponse::default().with_entries(Some(entries))
}

fn filter(request: &DescribeClientQuotasRequest) -> Result<Filter, Refusal> {
    let mut filter = Filter { strict: request.strict, ..Filter::default() };
    for component in &request.components {
        let wanted = wanted(component)?;
        let place = match component.entity_type.as_str() {
            USER => &mut filter.user,
            CLIENT => &mut filter.client,
            IP if request.components.len() == 1 => {
                filter.nothing = true;
                continue;
            }
            IP => return Err(invalid("Invalid entity filter component combination.".into())),
            "" => return Err(invalid("Invalid empty entity type.".into())),
            other => {
                let text = format!("Custom entity type '{other}' not supported.");
                return Err(Refusal::new(ResponseError::UnsupportedVersion, text));
            }
        };
        if place.replace(wanted).is_some() {
            let kind = component.entity_type.as_str();
            return Err(invalid(format!("Entity type {kind} cannot appear more than once.")));
        }
    }
    Ok(filter)
}

fn wanted(component: &ComponentData) -> Result<Wanted, Refusal> {
    match (component.match_type, &component._match) {
        (MATCH_EXACT, Some(name)) => Ok(Wanted::This(Name::Is(name.to_string()))),
        (MATCH_DEFAULT, None) => Ok(Wanted::This(Name::Default)),
        (MATCH_ANY, None) => Ok(Wanted::Any),
        (MATCH_EXACT, None) => Err(invalid(
            "Request specified MATCH_TYPE_EXACT, but set the match string to null.".into(),
        )),
        (MATCH_DEFAULT | MATCH_ANY, Some(_)) => {
            let text = "Request specified a match string beside a match type that has none.";
            Err(invalid(text.into()))
        }
        (other, _) => Err(invalid(format!("Unknown match type {other}"))),
    }
}

fn invalid(text: String) -> Refusal {
    Refusal::new(ResponseError::InvalidRequest, text)
}

impl Filter {
    fn lets_through(&self, entity: &Entity) -> bool {
        let matches = |wanted: &Option<Wanted>, name: &Option<Name>| match (wanted, name) {
            (None, None) => true,
            (None, Some(_)) => !self.strict,
            (Some(_), None) => false,
            (Some(Wanted::Any), Some(_)) => true,
            (Some(Wanted::This(wanted)), Some(name)) => wanted == name,
        };
        !self.nothing && matches(&self.user, &entity.user) && matches(&self.client, &entity.client)
    }
}

fn entry(entity: &Entity, of: &BTreeMap<Kind, f64>) -> EntryData {
    let part = |kind: &'static str, name: &Option<Name>| {
        let name = match name.as_ref()? {
            Name::Default => None,
            Name::Is(name) => Some(StrBytes::from_string(name.clone())),
        };
        let kind = StrBytes::from_static_str(kind);
        Some(EntityData::default().with_entity_type(kind).with_entity_name(name))
    };
    let value = |(kind, limit): (&Kind, &f64)| {
        ValueData::default().with_key(StrBytes::from_static_str(kind.key())).with_value(*limit)
    };
    let parts = [part(USER, &entity.user), part(CLIENT, &entity.client)];
    EntryData::default()
        .with_entity(parts.into_iter().flatten().collect())
        .with_values(of.iter().map(value).collect())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::DescribeClientQuotasRequest;
    use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
    use kafka_protocol::protocol::StrBytes;

    use super::{Entity, Name, filter};

    fn component(kind: &'static str, match_type: i8, name: Option<&'static str>) -> ComponentData {
        ComponentData::default()
            .with_entity_type(StrBytes::from_static_str(kind))
            .with_match_type(match_type)
            .with_match(name.map(StrBytes::from_static_str))
    }

    /// Which of four entities a filter lets through: user u; user u with client c; client c; any client.
    fn told(components: Vec<ComponentData>, strict: bool) -> Vec<usize> {
        let is = |name: &str| Some(Name::Is(name.to_owned()));
        let entities = [
            Entity { user: is("u"), client: None },
            Entity { user: is("u"), client: is("c") },
            Entity { user: None, client: is("c") },
            Entity { user: None, client: Some(Name::Default) },
        ];
        let request =
            DescribeClientQuotasRequest::default().with_components(components).with_strict(strict);
        let filter = filter(&request).unwrap();
        (0..4).filter(|at| filter.lets_through(&entities[*at])).collect()
    }

    #[test]
    fn a_filter_lets_through_what_it_names() {
        assert_eq!(told(vec![], false), [0, 1, 2, 3]);
        assert_eq!(told(vec![], true), [0; 0]);
        assert_eq!(told(vec![component("user", 0, Some("u"))], false), [0, 1]);
        assert_eq!(told(vec![component("user", 0, Some("u"))], true), [0]);
        assert_eq!(told(vec![component("client-id", 2, None)], false), [1, 2, 3]);
        assert_eq!(told(vec![component("client-id", 2, None)], true), [2, 3]);
        assert_eq!(told(vec![component("client-id", 1, None)], true), [3]);
        let both = vec![component("user", 2, None), component("client-id", 2, None)];
        assert_eq!(told(both, true), [1]);
        assert_eq!(told(vec![component("ip", 2, None)], false), [0; 0]);
    }

    #[test]
    fn a_filter_that_makes_no_sense_is_refused() {
        let user = || component("user", 2, None);
        let cases = [
            (vec![user(), user()], 42),
            (vec![component("", 2, None)], 42),
            (vec![component("group", 2, None)], 35),
            (vec![component("user", 0, None)], 42),
            (vec![component("user", 1, Some("u"))], 42),
            (vec![component("user", 3, None)], 42),
            (vec![user(), component("ip", 2, None)], 42),
        ];
        for (components, code) in cases {
            let request = DescribeClientQuotasRequest::default().with_components(components);
            let refused = filter(&request).unwrap_err();
            assert_eq!(refused.code.code(), code, "{}", refused.message);
        }
    }
}
