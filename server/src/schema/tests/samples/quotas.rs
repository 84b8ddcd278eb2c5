//! Requests about users and clients: quotas and credentials.

use bytes::Bytes;
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::{
    AlterClientQuotasRequest, DescribeClientQuotasRequest, DescribeUserScramCredentialsRequest,
};

use super::{Sample, encode, text};

impl Sample {
    pub(super) fn describe_client_quotas(&self) -> Vec<Bytes> {
        let named = ComponentData::default()
            .with_entity_type(text("client-id"))
            .with_match_type(0)
            .with_match(Some(text("kunde")))
            .with_unknown_tagged_fields(self.tags(1));
        let any = ComponentData::default().with_match_type(2).with_match(None);
        let full = DescribeClientQuotasRequest::default()
            .with_components(vec![named, any])
            .with_strict(true)
            .with_unknown_tagged_fields(self.tags(1));
        let empty = DescribeClientQuotasRequest::default();
        vec![encode(&full, self.version), encode(&empty, self.version)]
    }

    pub(super) fn alter_client_quotas(&self) -> Vec<Bytes> {
        let named = EntityData::default()
            .with_entity_type(text("user"))
            .with_entity_name(Some(text("kunde")))
            .with_unknown_tagged_fields(self.tags(1));
        let every =
            EntityData::default().with_entity_type(text("client-id")).with_entity_name(None);
        let op = OpData::default()
            .with_key(text("producer_byte_rate"))
            .with_value(1024.5)
            .with_remove(true)
            .with_unknown_tagged_fields(self.tags(1));
        let entry = EntryData::default()
            .with_entity(vec![named, every])
            .with_ops(vec![op, OpData::default()])
            .with_unknown_tagged_fields(self.tags(1));
        let full = AlterClientQuotasRequest::default()
            .with_entries(vec![entry, EntryData::default()])
            .with_validate_only(true)
            .with_unknown_tagged_fields(self.tags(1));
        let empty = AlterClientQuotasRequest::default();
        vec![encode(&full, self.version), encode(&empty, self.version)]
    }

    pub(super) fn describe_user_scram_credentials(&self) -> Vec<Bytes> {
        let user =
            UserName::default().with_name(text("kunde")).with_unknown_tagged_fields(self.tags(1));
        let full = DescribeUserScramCredentialsRequest::default()
            .with_users(Some(vec![user, UserName::default()]))
            .with_unknown_tagged_fields(self.tags(1));
        let none = DescribeUserScramCredentialsRequest::default().with_users(Some(Vec::new()));
        let null = DescribeUserScramCredentialsRequest::default().with_users(None);
        [full, none, null].iter().map(|request| encode(request, self.version)).collect()
    }
}
