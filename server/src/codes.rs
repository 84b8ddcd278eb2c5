//! Which Kafka error codes an answer carries, so that they can be counted where all answers pass.
//!
//! A new API needs a line here: its response, and the lists in it whose items have an `error_code`.

use kafka_protocol::messages::{
    AlterClientQuotasResponse, AlterConfigsResponse, AlterPartitionReassignmentsResponse,
    ApiVersionsResponse, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatResponse,
    CreatePartitionsResponse, CreateTopicsResponse, DeleteGroupsResponse, DeleteRecordsResponse,
    DeleteTopicsResponse, DescribeClientQuotasResponse, DescribeClusterResponse,
    DescribeConfigsResponse, DescribeGroupsResponse, DescribeLogDirsResponse,
    DescribeProducersResponse, DescribeQuorumResponse, DescribeTopicPartitionsResponse,
    DescribeUserScramCredentialsResponse, ElectLeadersResponse, FetchResponse,
    FindCoordinatorResponse, HeartbeatResponse, IncrementalAlterConfigsResponse,
    InitProducerIdResponse, JoinGroupResponse, LeaveGroupResponse, ListConfigResourcesResponse,
    ListGroupsResponse, ListOffsetsResponse, ListPartitionReassignmentsResponse, MetadataResponse,
    OffsetCommitResponse, OffsetDeleteResponse, OffsetFetchResponse, OffsetForLeaderEpochResponse,
    ProduceResponse, SyncGroupResponse, UnregisterBrokerResponse, UpdateFeaturesResponse,
};

use crate::legacy::list_offsets::TopicV0;

/// An answer that tells its error codes.
#[diagnostic::on_unimplemented(note = "add a line for this response to server/src/codes.rs")]
pub(crate) trait ErrorCodes {
    /// Tells every code, 0 for what went well.
    fn codes(&self, tell: &mut dyn FnMut(i16));
}

/// The paths of a response at whose end stands an `error_code`; `[]` is that of the response itself.
macro_rules! codes {
    ($response:ty: $([$($path:ident).*])+) => {
        impl ErrorCodes for $response {
            fn codes(&self, tell: &mut dyn FnMut(i16)) {
                $(codes!(@walk self, tell, $($path)*);)+
            }
        }
    };
    (@walk $item:ident, $tell:ident,) => { $tell($item.error_code) };
    (@walk $item:ident, $tell:ident, $first:ident $($rest:ident)*) => {
        for item in &$item.$first {
            codes!(@walk item, $tell, $($rest)*);
        }
    };
}

codes!(AlterConfigsResponse: [responses]);
codes!(AlterPartitionReassignmentsResponse: [] [responses.partitions]);
codes!(ApiVersionsResponse: []);
codes!(ConsumerGroupDescribeResponse: [groups]);
codes!(ConsumerGroupHeartbeatResponse: []);
codes!(CreatePartitionsResponse: [results]);
codes!(CreateTopicsResponse: [topics]);
codes!(DeleteGroupsResponse: [results]);
codes!(DeleteRecordsResponse: [topics.partitions]);
codes!(DeleteTopicsResponse: [responses]);
codes!(DescribeClusterResponse: []);
codes!(DescribeConfigsResponse: [results]);
codes!(DescribeGroupsResponse: [groups]);
codes!(DescribeLogDirsResponse: [] [results]);
codes!(DescribeTopicPartitionsResponse: [topics] [topics.partitions]);
codes!(DescribeUserScramCredentialsResponse: [] [results]);
codes!(ElectLeadersResponse: [] [replica_election_results.partition_result]);
codes!(FetchResponse: [] [responses.partitions]);
codes!(FindCoordinatorResponse: [] [coordinators]);
codes!(HeartbeatResponse: []);
codes!(IncrementalAlterConfigsResponse: [responses]);
codes!(InitProducerIdResponse: []);
codes!(JoinGroupResponse: []);
codes!(LeaveGroupResponse: [] [members]);
codes!(ListGroupsResponse: []);
codes!(ListOffsetsResponse: [topics.partitions]);
codes!(ListPartitionReassignmentsResponse: []);
codes!(MetadataResponse: [topics] [topics.partitions]);
codes!(OffsetCommitResponse: [topics.partitions]);
codes!(OffsetDeleteResponse: [] [topics.partitions]);
codes!(OffsetFetchResponse: [] [topics.partitions] [groups] [groups.topics.partitions]);
codes!(OffsetForLeaderEpochResponse: [topics.partitions]);
codes!(ProduceResponse: [responses.partition_responses]);
codes!(SyncGroupResponse: []);
codes!(UnregisterBrokerResponse: []);
codes!(AlterClientQuotasResponse: [entries]);
codes!(DescribeClientQuotasResponse: []);
codes!(DescribeProducersResponse: [topics.partitions]);
codes!(DescribeQuorumResponse: [] [topics.partitions]);
codes!(ListConfigResourcesResponse: []);
codes!(UpdateFeaturesResponse: [] [results]);

impl ErrorCodes for Vec<TopicV0> {
    fn codes(&self, tell: &mut dyn FnMut(i16)) {
        self.iter().flat_map(|topic| &topic.partitions).for_each(|p| tell(p.error_code));
    }
}

/// Kafka's name of an error code, as its documentation writes it.
pub(crate) fn name(code: i16) -> String {
    let Some(error) = kafka_protocol::ResponseError::try_from_code(code) else {
        return "NONE".to_owned();
    };
    let mut name = String::new();
    for letter in format!("{error:?}").chars() {
        if letter == '(' {
            break;
        }
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::metadata_response::{
        MetadataResponsePartition, MetadataResponseTopic,
    };

    use super::*;

    #[test]
    fn every_code_of_an_answer_is_told() {
        let partition = MetadataResponsePartition::default().with_error_code(5);
        let topic = MetadataResponseTopic::default()
            .with_error_code(3)
            .with_partitions(vec![MetadataResponsePartition::default(), partition]);
        let mut told = Vec::new();
        MetadataResponse::default().with_topics(vec![topic]).codes(&mut |code| told.push(code));
        assert_eq!(told, [3, 0, 5]);
    }

    #[test]
    fn codes_have_the_names_of_kafkas_documentation() {
        assert_eq!(name(3), "UNKNOWN_TOPIC_OR_PARTITION");
        assert_eq!(name(-1), "UNKNOWN_SERVER_ERROR");
        assert_eq!(name(56), "KAFKA_STORAGE_ERROR");
    }
}
