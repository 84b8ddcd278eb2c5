//! UpdateFeatures (57), versions 0 to 2: no feature can be changed (KIP-584, KIP-1022).
//!
//! Which features a node of jangbu has goes with its version, and all nodes of a cluster have the same ones. So every
//! update is refused as Kafka refuses one that it does not support: before version 2 each by itself, then all together.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::update_features_response::UpdatableFeatureResult;
use kafka_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use kafka_protocol::protocol::StrBytes;

use crate::broker::Broker;
use crate::dispatch::Call;

pub(crate) async fn handle(
    broker: &Broker,
    call: &Call,
    request: UpdateFeaturesRequest,
) -> UpdateFeaturesResponse {
    let Some(first) = request.feature_updates.first() else {
        let message = "Can not provide empty FeatureUpdates.";
        return refused(ResponseError::InvalidRequest, message.to_owned());
    };
    if call.version >= 2 {
        let why = reason(broker, first);
        let message = format!(
            "The update failed for all features since the following feature had an error: {why}"
        );
        return refused(ResponseError::InvalidUpdateVersion, message);
    }
    let result = |update: &FeatureUpdateKey| {
        UpdatableFeatureResult::default()
            .with_feature(update.feature.clone())
            .with_error_code(ResponseError::InvalidUpdateVersion.code())
            .with_error_message(Some(StrBytes::from_string(reason(broker, update))))
    };
    UpdateFeaturesResponse::default()
        .with_results(request.feature_updates.iter().map(result).collect())
}

fn refused(code: ResponseError, message: String) -> UpdateFeaturesResponse {
    UpdateFeaturesResponse::default()
        .with_error_code(code.code())
        .with_error_message(Some(StrBytes::from_string(message)))
}

fn reason(broker: &Broker, update: &FeatureUpdateKey) -> String {
    format!(
        "Invalid update version {} for feature {}. Broker {} does not support changing this feature: the versions of features go with that of jangbu.",
        update.max_version_level,
        update.feature.as_str(),
        broker.id()
    )
}
