//! Requests about the metadata group, features, producers and config resources.

use bytes::Bytes;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeQuorumRequest, ListConfigResourcesRequest,
    UpdateFeaturesRequest,
};

use super::{Sample, encode, tags, text, topic};

impl Sample {
    pub(super) fn describe_quorum(&self) -> Vec<Bytes> {
        let partition =
            PartitionData::default().with_partition_index(7).with_unknown_tagged_fields(tags());
        let named = TopicData::default()
            .with_topic_name(topic("eins"))
            .with_partitions(vec![partition, PartitionData::default()])
            .with_unknown_tagged_fields(tags());
        let full = DescribeQuorumRequest::default()
            .with_topics(vec![named, TopicData::default()])
            .with_unknown_tagged_fields(tags());
        vec![encode(&full, self.version), encode(&DescribeQuorumRequest::default(), self.version)]
    }

    pub(super) fn update_features(&self) -> Vec<Bytes> {
        let mut update = FeatureUpdateKey::default()
            .with_feature(text("eigenschaft"))
            .with_max_version_level(3)
            .with_unknown_tagged_fields(tags());
        match self.version {
            0 => update.allow_downgrade = true,
            _ => update.upgrade_type = 2,
        }
        let full = UpdateFeaturesRequest::default()
            .with_timeout_ms(1_000)
            .with_feature_updates(vec![update, FeatureUpdateKey::default()])
            .with_validate_only(self.since(1, true, false))
            .with_unknown_tagged_fields(tags());
        vec![encode(&full, self.version), encode(&UpdateFeaturesRequest::default(), self.version)]
    }

    pub(super) fn describe_producers(&self) -> Vec<Bytes> {
        let named = TopicRequest::default()
            .with_name(topic("eins"))
            .with_partition_indexes(vec![0, 7])
            .with_unknown_tagged_fields(tags());
        let full = DescribeProducersRequest::default()
            .with_topics(vec![named, TopicRequest::default()])
            .with_unknown_tagged_fields(tags());
        let empty = DescribeProducersRequest::default();
        vec![encode(&full, self.version), encode(&empty, self.version)]
    }

    pub(super) fn list_config_resources(&self) -> Vec<Bytes> {
        let full = ListConfigResourcesRequest::default()
            .with_resource_types(self.since(1, vec![2, 4, 16], vec![]))
            .with_unknown_tagged_fields(tags());
        let empty = ListConfigResourcesRequest::default();
        vec![encode(&full, self.version), encode(&empty, self.version)]
    }
}
