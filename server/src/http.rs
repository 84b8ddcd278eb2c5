//! The HTTP port: `/healthz` (the process lives), `/readyz` (it can serve), `/metrics` (Prometheus),
//! and keys (`http/keys.rs`).

mod keys;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::status::Status;

#[derive(Debug, Clone)]
struct Shared {
    status: Arc<Status>,
    draining: CancellationToken,
}

/// Serves until the node drains, also while it is not ready yet.
pub(crate) async fn run(status: Arc<Status>, listener: TcpListener, draining: CancellationToken) {
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show_metrics))
        .route("/topics/{topic}/keys", get(keys::list))
        .route("/topics/{topic}/keys/", get(keys::get))
        .route("/topics/{topic}/keys/{*key}", get(keys::get))
        .with_state(Shared { status, draining: draining.clone() });
    // Answers are written whole; waiting to fill a segment would only delay them.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
    });
    let serving = axum::serve(listener, routes).with_graceful_shutdown(draining.cancelled_owned());
    if let Err(error) = serving.await {
        tracing::error!(%error, "the HTTP port has failed");
    }
}

async fn readyz(State(shared): State<Shared>) -> (StatusCode, String) {
    let unavailable = |text| (StatusCode::SERVICE_UNAVAILABLE, text);
    if shared.draining.is_cancelled() {
        return unavailable("draining\n".to_owned());
    }
    match shared.status.waiting() {
        Some(what) => unavailable(format!("waiting for {what}\n")),
        None => {
            // It serves all the same.
            let warnings = shared.status.broker().map(|broker| broker.compaction.warnings());
            (StatusCode::OK, format!("ready\n{}", warnings.unwrap_or_default()))
        }
    }
}

async fn show_metrics(State(shared): State<Shared>) -> impl IntoResponse {
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    let Some(broker) = shared.status.broker().cloned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, content_type, String::new());
    };
    // RocksDB and the file system are asked, which may take a while.
    let page = tokio::task::spawn_blocking(move || metrics::render(&broker)).await;
    match page {
        Ok(page) => (StatusCode::OK, content_type, page),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be collected");
            (StatusCode::INTERNAL_SERVER_ERROR, content_type, String::new())
        }
    }
}
