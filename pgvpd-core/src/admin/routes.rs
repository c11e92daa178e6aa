//! What there is, and what each request does.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::{MayChange, MayRead};
use super::{Admin, dashboard, metrics};
use crate::pool::PoolMode;
use crate::reload::ReloadError;
use crate::sessions::SessionId;
use crate::shared::Shared;

/// How long a request may take, its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest body of a request, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// Sessions that `/status` shows one by one if nobody says how many.
const SHOWN_SESSIONS: usize = 100;

pub(super) fn router(admin: &Arc<Admin>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/health", get(async || "ok\n"))
        .route("/ready", get(ready))
        .route("/metrics", get(scrape))
        .route("/status", get(status))
        .route("/reload", post(reload))
        .route("/drain", post(drain))
        .route("/pools/pause", post(pause))
        .route("/pools/resume", post(resume))
        .route("/tenants/{tenant}/disconnect", post(disconnect_tenant))
        .route("/sessions/{session}/disconnect", post(disconnect_session))
        .route("/resolvers/invalidate", post(invalidate))
        .fallback(async || failed(StatusCode::NOT_FOUND, "there is nothing here; GET / lists what there is"))
        .method_not_allowed_fallback(async || failed(StatusCode::METHOD_NOT_ALLOWED, "not with this method"))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(within_limits))
        .with_state(Arc::clone(admin))
}

/// Gives up a request that takes too long, and keeps browsers from doing anything with answers.
async fn within_limits(request: Request, next: Next) -> Response {
    let answered = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await;
    let mut response = answered.unwrap_or_else(|_| failed(StatusCode::REQUEST_TIMEOUT, "the request took too long"));
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let none = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(none);
    response
}

fn failed(status: StatusCode, error: impl std::fmt::Display) -> Response {
    (status, Json(json!({ "error": error.to_string() }))).into_response()
}

const INDEX: &str = "\
pgvpd
GET  /health                        alive
GET  /ready                         takes clients, and the server answers; else 503 and why
GET  /metrics                       for Prometheus
GET  /status?sessions=100           everything, as JSON
With Authorization: Bearer <admin_token>:
POST /reload                        read the configuration again
POST /drain                         no more clients; sessions may finish, then the proxy ends
POST /pools/pause                   close server connections, let clients wait
POST /pools/resume                  go on
POST /tenants/{tenant}/disconnect   end a tenant's sessions
POST /sessions/{session}/disconnect end one session
POST /resolvers/invalidate          {\"resolver\": \"name\", \"params\": [\"42\"]}, both as you like
";

/// The dashboard for a browser, a list for everybody else.
async fn index(headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.contains("text/html") { dashboard::page().await.into_response() } else { INDEX.into_response() }
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    match admin.readiness.check(&admin.shared).await {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response(),
    }
}

async fn scrape(_: MayRead, State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    let form = metrics::Form::wanted(headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()));
    let status = admin.shared.status(&admin.addresses, 0);
    match metrics::encode(status, form) {
        Ok(text) => ([(header::CONTENT_TYPE, form.content_type())], text).into_response(),
        Err(error) => failed(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shown {
    #[serde(default = "shown_sessions")]
    sessions: usize,
}

fn shown_sessions() -> usize {
    SHOWN_SESSIONS
}

async fn status(_: MayRead, State(admin): State<Arc<Admin>>, shown: Result<Query<Shown>, QueryRejection>) -> Response {
    match shown {
        Ok(Query(Shown { sessions })) => Json(admin.shared.status(&admin.addresses, sessions)).into_response(),
        Err(error) => failed(StatusCode::BAD_REQUEST, error.body_text()),
    }
}

async fn reload(_: MayChange, State(admin): State<Arc<Admin>>) -> Response {
    match Shared::reload_again(&admin.shared).await {
        Ok(reloaded) => Json(json!({ "needs_restart": reloaded.needs_restart })).into_response(),
        Err(error) => {
            tracing::error!(%error, "reload failed; the old configuration stays");
            let status = match error {
                ReloadError::NoSource => StatusCode::NOT_IMPLEMENTED,
                _ => StatusCode::UNPROCESSABLE_ENTITY,
            };
            failed(status, error)
        }
    }
}

async fn drain(_: MayChange, State(admin): State<Arc<Admin>>) -> Response {
    let (sessions, timeout) = Shared::begin_to_drain(&admin.shared);
    let timeout = timeout.as_secs_f64();
    (StatusCode::ACCEPTED, Json(json!({ "sessions": sessions, "shutdown_timeout": timeout }))).into_response()
}

/// What pausing says where there is nothing to pause.
fn no_pools(admin: &Admin) -> Option<Response> {
    let has_none = admin.shared.config.load().pool_mode == PoolMode::None;
    has_none.then(|| failed(StatusCode::CONFLICT, "there are no pools: pool_mode is none"))
}

async fn pause(_: MayChange, State(admin): State<Arc<Admin>>) -> Response {
    if let Some(refused) = no_pools(&admin) {
        return refused;
    }
    admin.shared.pools.pause();
    pools_now(&admin)
}

async fn resume(_: MayChange, State(admin): State<Arc<Admin>>) -> Response {
    if let Some(refused) = no_pools(&admin) {
        return refused;
    }
    admin.shared.pools.resume();
    pools_now(&admin)
}

fn pools_now(admin: &Admin) -> Response {
    let stats = admin.shared.stats();
    let in_use = stats.pool_connections.saturating_sub(stats.pool_idle);
    let paused = admin.shared.pools.is_paused();
    Json(json!({ "paused": paused, "connections_in_use": in_use, "waiting": stats.pool_waiting })).into_response()
}

async fn disconnect_tenant(_: MayChange, State(admin): State<Arc<Admin>>, Path(tenant): Path<String>) -> Response {
    let ended = admin.shared.disconnect_tenant(&tenant);
    Json(json!({ "tenant": tenant, "sessions": ended })).into_response()
}

async fn disconnect_session(_: MayChange, State(admin): State<Arc<Admin>>, Path(session): Path<String>) -> Response {
    let Ok(number) = session.parse() else {
        return failed(StatusCode::BAD_REQUEST, "a session is named by its number, as /status has it");
    };
    match admin.shared.disconnect_session(SessionId(number)) {
        false => failed(StatusCode::NOT_FOUND, format_args!("there is no session {number}")),
        true => Json(json!({ "session": number, "sessions": 1 })).into_response(),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Invalidated {
    /// `None` for all.
    resolver: Option<String>,
    /// `None` for any.
    params: Option<Vec<String>>,
}

async fn invalidate(
    _: MayChange,
    State(admin): State<Arc<Admin>>,
    body: Result<Option<Json<Invalidated>>, JsonRejection>,
) -> Response {
    let Invalidated { resolver, params } = match body {
        Ok(body) => body.map(|Json(body)| body).unwrap_or_default(),
        Err(error) => return failed(StatusCode::BAD_REQUEST, error.body_text()),
    };
    if params.is_some() && resolver.is_none() {
        return failed(StatusCode::BAD_REQUEST, "params are those of a resolver: name it");
    }
    if let Some(resolving) = admin.shared.resolving_so_far() {
        resolving.invalidate(None, resolver.as_deref(), params.as_deref(), &admin.shared);
    }
    let said: Value = json!({ "resolver": resolver, "params": params });
    Json(said).into_response()
}
