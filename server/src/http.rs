//! The HTTP port: `/healthz` (the process lives), `/readyz` (it can serve), `/metrics` (Prometheus).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::broker::Broker;
use crate::metrics;

#[derive(Debug, Clone)]
struct Shared {
    broker: Arc<Broker>,
    ready: Arc<AtomicBool>,
}

/// Serves until the node drains.
pub(crate) async fn run(broker: Arc<Broker>, ready: Arc<AtomicBool>, listener: TcpListener) {
    let draining = broker.draining.clone();
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show_metrics))
        .with_state(Shared { broker, ready });
    let serving = axum::serve(listener, routes).with_graceful_shutdown(draining.cancelled_owned());
    if let Err(error) = serving.await {
        tracing::error!(%error, "the HTTP port has failed");
    }
}

async fn readyz(State(shared): State<Shared>) -> impl IntoResponse {
    if shared.broker.draining.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n");
    }
    if !shared.ready.load(Ordering::Acquire) {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "waiting for partitions to elect their leaders\n",
        );
    }
    (StatusCode::OK, "ready\n")
}

async fn show_metrics(State(shared): State<Shared>) -> impl IntoResponse {
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    // RocksDB and the file system are asked, which may take a while.
    let page = tokio::task::spawn_blocking(move || metrics::render(&shared.broker)).await;
    match page {
        Ok(page) => (StatusCode::OK, content_type, page),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be collected");
            (StatusCode::INTERNAL_SERVER_ERROR, content_type, String::new())
        }
    }
}
