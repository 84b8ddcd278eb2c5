//! DescribeUserScramCredentials (50), version 0: which users can prove who they are by SCRAM (KIP-554). Nobody can: there is no SASL
//! here, and no credential is kept. Kafka's tools ask beside the quotas of users, and go on when there are none.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_user_scram_credentials_response::DescribeUserScramCredentialsResult;
use kafka_protocol::messages::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::broker::Broker;
use crate::dispatch::Call;

pub(crate) async fn handle(
    _broker: &Broker,
    _call: &Call,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let mut asked = BTreeMap::<StrBytes, usize>::new();
    for user in request.users.into_iter().flatten() {
        *asked.entry(user.name).or_default() += 1;
    }
    let results = asked.into_iter().map(|(user, times)| refused(user, times)).collect();
    DescribeUserScramCredentialsResponse::default().with_results(results)
}

/// The answer about one user, asked for so many times.
fn refused(user: StrBytes, times: usize) -> DescribeUserScramCredentialsResult {
    let (code, text) = if times > 1 {
        let text = "Cannot describe SCRAM credentials for the same user twice in a single request";
        (ResponseError::DuplicateResource, text)
    } else {
        let text = "Attempt to describe a user credential that does not exist";
        (ResponseError::ResourceNotFound, text)
    };
    DescribeUserScramCredentialsResult::default()
        .with_error_code(code.code())
        .with_error_message(Some(StrBytes::from_string(format!("{text}: {user}"))))
        .with_user(user)
}
