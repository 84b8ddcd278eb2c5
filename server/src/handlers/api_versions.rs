//! ApiVersions (18), versions 0 to 4: what this node answers, straight from the dispatch table, and its features.
//!
//! A version that is not known is answered in version 0 with error 35 and the full list, so that the
//! client can choose again (KIP-511). The response header is always version 0.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::groups::text;
use crate::broker::Broker;
use crate::dispatch::{APIS, Answer, Call, Refused};

/// Whether groups of the consumer protocol are there (KIP-848): level 1 says that they are.
const GROUP_VERSION: &str = "group.version";
/// Features are told from this version on.
const VERSION_FEATURES: i16 = 3;
/// A feature that may be at level 0 is told as it is from this version on; older clients would not take it.
const VERSION_LEVEL_ZERO: i16 = 4;

fn keys() -> Vec<ApiVersion> {
    let entry = |api: &crate::dispatch::Api| {
        ApiVersion::default()
            .with_api_key(api.key.number())
            .with_min_version(api.advertised_min)
            .with_max_version(api.max)
    };
    APIS.iter().map(entry).collect()
}

pub(crate) async fn handle(
    _broker: &Broker,
    call: &Call,
    request: ApiVersionsRequest,
) -> ApiVersionsResponse {
    if call.version >= 3 && !is_named(&request) {
        return ApiVersionsResponse::default()
            .with_error_code(ResponseError::InvalidRequest.code());
    }
    let response = ApiVersionsResponse::default().with_api_keys(keys());
    if call.version >= VERSION_FEATURES { with_features(response, call.version) } else { response }
}

/// What the cluster's features are: every node has them, and they never change.
fn with_features(response: ApiVersionsResponse, version: i16) -> ApiVersionsResponse {
    let supported = SupportedFeatureKey::default()
        .with_name(text(GROUP_VERSION))
        .with_min_version(i16::from(version < VERSION_LEVEL_ZERO))
        .with_max_version(1);
    let finalized = FinalizedFeatureKey::default()
        .with_name(text(GROUP_VERSION))
        .with_min_version_level(1)
        .with_max_version_level(1);
    response
        .with_supported_features(vec![supported])
        .with_finalized_features(vec![finalized])
        .with_finalized_features_epoch(0)
}

/// From version 3 on a client says what it is (KIP-511).
fn is_named(request: &ApiVersionsRequest) -> bool {
    let allowed = |text: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
        let outer = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        let bytes = text.as_bytes();
        outer(bytes.first().copied()) && outer(bytes.last().copied()) && text.bytes().all(inner)
    };
    allowed(&request.client_software_name) && allowed(&request.client_software_version)
}

/// The answer to a version of ApiVersions that is not known.
///
/// # Errors
/// [`Refused::Answer`].
pub(crate) fn unsupported(_broker: &Arc<Broker>, call: &Call) -> Result<Answer, Refused> {
    let response = ApiVersionsResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_api_keys(keys());
    call.respond_as(&response, 0).map(|response| Answer::Now(Some(response)))
}
